"""Makes a channel of a connected socket: plain, or TLS with the fleet's certificates.

After the handshake each side judges the other's names, and tells it the verdict: without that a client would not know
whether it was let in, since in TLS 1.3 it is done before the server has seen its certificate. Knows no frames.
"""

import socket
import ssl

from cryptography import x509

from prfaas.control.certificate_files import dns_names
from prfaas.control.credentials import Credentials
from prfaas.core.errors import PeerLostError, PeerRefusedError, PrfaasError
from prfaas.transport.channel import Channel
from prfaas.transport.tls_channel import TlsChannel
from prfaas.transport.tls_handshake import TlsHandshake

LENGTH_BYTES = 2
"""A verdict is the reason for a refusal in UTF-8, empty where there is none, behind its length (little-endian)."""
MAX_REASON_BYTES = 1024

_CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In OpenSSL's names of what a peer says when it does not like ours, or we when there is none."""


def secure(
    sock: socket.socket, credentials: Credentials | None, *, server_side: bool, timeout_s: float, peer: str
) -> Channel:
    """Takes the socket over, also if it fails. Raises PeerRefusedError or PeerLostError."""
    if credentials is None:
        return Channel(sock, peer)
    made = TlsHandshake(
        sock,
        credentials.server_context() if server_side else credentials.client_context(),
        server_side=server_side,
        name=credentials.fleet_name,
        timeout_s=timeout_s,
    )
    try:
        made.run()
        _exchange_verdicts(made, credentials.refusal(_names(made, peer)), peer)
    except PeerRefusedError:
        made.close()
        credentials.count_refused("data")
        raise
    except PrfaasError:
        made.close()
        raise
    except OSError as error:
        made.close()
        typed = _typed(error, peer, timeout_s)
        if isinstance(typed, PeerRefusedError):
            credentials.count_refused("data")
        raise typed from error
    return TlsChannel(made, peer)


def _names(made: TlsHandshake, peer: str) -> list[str]:
    try:
        return dns_names(x509.load_der_x509_certificate(made.certificate))
    except ValueError as error:
        # OpenSSL was less strict.
        raise PeerRefusedError(f"{peer} is refused: its certificate cannot be read: {error}") from error


def _exchange_verdicts(made: TlsHandshake, refusal: str | None, peer: str) -> None:
    mine = (refusal or "").encode()[:MAX_REASON_BYTES]
    verdict = len(mine).to_bytes(LENGTH_BYTES, "little") + mine
    # The client listens first: if the server did not accept its certificate, what it sent would only meet a closed
    # connection, and the reason be lost. Both are heard in any case, since bytes left unread could undo ours.
    if made.server_side:
        made.send(verdict)
    theirs = _read(made, int.from_bytes(_read(made, LENGTH_BYTES, peer), "little"), peer)
    if not made.server_side:
        made.send(verdict)
    if refusal is not None:
        raise PeerRefusedError(f"{peer} is refused: {refusal}")
    if theirs:
        raise PeerRefusedError(f"{peer} refuses us: {theirs.decode(errors='replace')}")


def _read(made: TlsHandshake, num_bytes: int, peer: str) -> bytes:
    read = made.read(num_bytes)
    if len(read) < num_bytes:
        raise PeerLostError(f"{peer} ended the connection right after the TLS handshake; its log may say why")
    return read


def _typed(error: OSError, peer: str, timeout_s: float) -> PrfaasError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return PeerRefusedError(
            f"{peer} is refused: its certificate was not accepted ({error.verify_message}); it must be valid now, and "
            "issued by the authority in this process's security.ca"
        )
    if isinstance(error, TimeoutError):
        return PeerLostError(f"no TLS handshake with {peer} within {timeout_s:g} s; is its security.mode mtls too?")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        if "ALERT" not in reason and "CERTIFICATE" in reason:
            return PeerRefusedError(f"{peer} is refused: it shows no certificate; is it of this fleet, with mode mtls?")
        if "ALERT" in reason and any(word in reason for word in _CERTIFICATE_ALERTS):
            return PeerRefusedError(
                f"{peer} refuses our certificate ({reason}); it must be valid now, and issued by the authority that "
                "the peer trusts (security.ca)"
            )
        return PeerLostError(f"no TLS 1.3 handshake with {peer} ({reason}); is its security.mode mtls too?")
    return PeerLostError(f"the connection to {peer} ended during the TLS handshake ({error}); is its mode mtls too?")
