"""The three PEM files that a process shows and trusts: read, judged, and made into what TLS takes.

Everything wrong with them is a ConfigError that names the file. Knows nothing of peers, and not when to read again.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from prfaas.config.sections import SecuritySection
from prfaas.core.errors import ConfigError

Stamp = tuple[int, int, int]
"""Inode, time of change in ns, bytes."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are."""

    ca: Path
    cert: Path
    key: Path

    def stamps(self) -> tuple[Stamp | None, ...]:
        """Equal for as long as no file is replaced or written."""
        return tuple(_stamp(path) for path in (self.ca, self.cert, self.key))


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files held at one moment, all of it fit for use."""

    stamps: tuple[Stamp | None, ...]
    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes
    cert_expiry_s: float
    """Unix time; so is the next."""
    ca_expiry_s: float
    """Of the authority that lasts longest."""
    server: ssl.SSLContext
    client: ssl.SSLContext


def files_of(section: SecuritySection, name: str, cluster: str) -> CertificateFiles:
    """The files of the process `name` in `cluster`; `section` is of mode mtls and was checked."""

    def filled(path: Path | None) -> Path:
        assert path is not None
        return Path(str(path).replace("{name}", name).replace("{cluster}", cluster))

    return CertificateFiles(filled(section.ca), filled(section.cert), filled(section.key))


def read_certificates(files: CertificateFiles, fleet_name: str, unix_time_s: float) -> Certificates:
    """Reads and judges all three. Raises ConfigError."""
    stamps = files.stamps()
    ca_pem = _read(files.ca, "ca")
    cert_pem, key_pem = _read(files.cert, "cert"), _read(files.key, "key")
    authorities = _parsed(files.ca, "ca", ca_pem)
    chain = _parsed(files.cert, "cert", cert_pem)
    now = datetime.fromtimestamp(unix_time_s, UTC)
    _check_validity(files.cert, "cert", chain[:1], now)
    _check_validity(files.ca, "ca", authorities, now)
    _check_key(files, chain[0], key_pem)
    _check_chain(files, chain, authorities)
    if fleet_name.lower() not in (name.lower() for name in dns_names(chain[0])):
        raise ConfigError(
            f"security.cert: {files.cert} does not carry the DNS name {fleet_name} (security.fleet_name), so all peers "
            "would refuse it; `prfaas certs` makes certificates that do"
        )
    server, client = (_context(side, files, ca_pem) for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    if files.stamps() != stamps:
        raise ConfigError(f"security: {files.cert} and its key and authority were written while they were read")
    return Certificates(stamps, ca_pem, cert_pem, key_pem, _expiry_s(chain[:1]), _expiry_s(authorities), server, client)


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.DNSName)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"security.{key}: {path} cannot be read: {error.strerror}; `prfaas certs` makes the fleet's files"
        ) from error


def _parsed(path: Path, key: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(
            f"security.{key}: {path} is no PEM file of certificates; `prfaas certs` makes the fleet's files"
        ) from error


def _check_validity(path: Path, key: str, certificates: Sequence[x509.Certificate], now: datetime) -> None:
    """One that is valid is enough: an authority's file may hold its predecessor too."""
    if any(c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in certificates):
        return
    last = max(certificates, key=lambda c: c.not_valid_after_utc)
    if now > last.not_valid_after_utc:
        raise ConfigError(f"security.{key}: {path} expired on {last.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")
    raise ConfigError(
        f"security.{key}: {path} is not valid before {last.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, which is still to "
        "come; set this machine's clock, or make another"
    )


def _check_key(files: CertificateFiles, certificate: x509.Certificate, key_pem: bytes) -> None:
    try:
        key = load_pem_private_key(key_pem, None)
    except TypeError:
        raise ConfigError(
            f"security.key: {files.key} is encrypted, and nobody is there to type its password; store it without one"
        ) from None
    except ValueError as error:
        raise ConfigError(f"security.key: {files.key} is no PEM file of a private key: {error}") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigError(
            f"security.key: {files.key} is not the key of {files.cert}; give the two that belong together"
        )


def _check_chain(
    files: CertificateFiles, chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> None:
    """Each certificate of the file is issued by the next, and the last by an authority."""
    linked = all(_issued(child, [parent]) for child, parent in pairwise(chain))
    if not linked or not _issued(chain[-1], authorities):
        raise ConfigError(
            f"security.cert: {files.cert} was not issued by the authority in {files.ca}; give the two that belong "
            "together"
        )


def _issued(child: x509.Certificate, parents: Sequence[x509.Certificate]) -> bool:
    for parent in parents:
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _context(side: int, files: CertificateFiles, ca_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The peer's names are judged after the handshake, by one rule for both sides.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if side == ssl.PROTOCOL_TLS_SERVER:
        # Connections are long-lived; a ticket would only be bytes that the other side does not wait for.
        context.num_tickets = 0
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "replace"))
        context.load_cert_chain(files.cert, files.key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"security.cert: {files.cert} with {files.key} cannot be used for TLS: {error}") from error
    return context


def _expiry_s(certificates: Sequence[x509.Certificate]) -> float:
    return max(c.not_valid_after_utc for c in certificates).timestamp()
