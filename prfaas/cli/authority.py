"""A certificate authority in a folder, and the certificates that it issues. Knows no fleet files."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from prfaas.core.errors import ConfigError

CLOCKS_APART = timedelta(minutes=5)
"""What is made here is valid at once on machines whose clocks are so far behind."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A self-signed certificate and its key, ECDSA on P-256 as all that it issues."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, now: datetime, days: int) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prfaas development authority")])
        builder = (
            _validity(now, days)
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, SHA256()), key)

    @classmethod
    def read(cls, cert: Path, key: Path) -> "Authority":
        """Raises ConfigError."""
        try:
            loaded = load_pem_private_key(key.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{cert} and {key} are no authority that can be used: {error}; choose another --out"
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != certificate.public_key():
            raise ConfigError(f"{key} is not the key of {cert}, or none on a curve; choose another --out")
        return cls(certificate, loaded)

    def pems(self) -> tuple[bytes, bytes]:
        """Certificate and key."""
        return self.certificate.public_bytes(Encoding.PEM), _key_pem(self.key)

    def issue(self, names: list[str], now: datetime, days: int) -> tuple[bytes, bytes]:
        """PEMs of a certificate for these DNS names, for servers and clients, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _validity(now, days)
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            # Critical, as it must be where the subject is empty: a common name ends at 64 characters, a DNS name later.
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(identity, critical=False)
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM), _key_pem(key)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `path` in one step, so that nobody reads half of it, and never shows it to others."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _validity(now: datetime, days: int) -> x509.CertificateBuilder:
    start = now.astimezone(UTC)
    return (
        x509.CertificateBuilder().not_valid_before(start - CLOCKS_APART).not_valid_after(start + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
