"""Makes a channel of a connected socket: plain, or TLS with the fleet's certificates.

After the handshake each side judges the other's names, and the server tells the client its verdict in one message:
in TLS 1.3 a client is done before the server has seen its certificate. Knows no frames.
"""

import socket
import ssl

from cryptography import x509

from prfaas.control.certificate_files import dns_names
from prfaas.control.credentials import Credentials
from prfaas.core.errors import PeerLostError, PeerRefusedError, PrfaasError
from prfaas.transport.channel import Channel
from prfaas.transport.tls_channel import TlsChannel

WELCOME = b"\x01"
REFUSED = b"\x00"
"""The server's verdict; why follows, in UTF-8, until the end of the connection."""
MAX_REASON_BYTES = 1024

_CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In OpenSSL's names of what a peer says when it does not like ours, or we when there is none."""


def secure(
    sock: socket.socket, credentials: Credentials | None, *, server_side: bool, timeout_s: float, peer: str
) -> Channel:
    """Takes the socket over, also if it fails. Raises PeerRefusedError or PeerLostError."""
    if credentials is None:
        return Channel(sock, peer)
    try:
        return TlsChannel(_encrypted(sock, credentials, server_side, timeout_s, peer), peer)
    except PeerRefusedError:
        credentials.count_refused("data")
        raise


def _encrypted(
    sock: socket.socket, credentials: Credentials, server_side: bool, timeout_s: float, peer: str
) -> ssl.SSLSocket:
    context = credentials.server_context() if server_side else credentials.client_context()
    sock.settimeout(timeout_s)
    try:
        tls = context.wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=False,
            server_hostname=None if server_side else credentials.fleet_name,
        )
    except OSError as error:
        sock.close()
        raise PeerLostError(f"the connection to {peer} ended before it was encrypted: {error}") from error
    try:
        tls.do_handshake()
        refusal = credentials.refusal(_names(tls))
        if server_side:
            tls.sendall(WELCOME if refusal is None else REFUSED + refusal.encode()[:MAX_REASON_BYTES])
        if refusal is not None:
            raise PeerRefusedError(f"{peer} is refused: {refusal}")
        if not server_side:
            _hear_verdict(tls, peer)
    except OSError as error:
        tls.close()
        raise _typed(error, peer, timeout_s) from error
    except PrfaasError:
        tls.close()
        raise
    return tls


def _names(tls: ssl.SSLSocket) -> list[str]:
    shown = tls.getpeercert(binary_form=True)
    assert shown is not None, "both contexts ask for a certificate"
    return dns_names(x509.load_der_x509_certificate(shown))


def _hear_verdict(tls: ssl.SSLSocket, peer: str) -> None:
    verdict = tls.recv(1)
    if verdict == WELCOME:
        return
    if verdict != REFUSED:
        raise PeerLostError(f"{peer} ended the connection right after the TLS handshake; its log may say why")
    reason = bytearray()
    while len(reason) < MAX_REASON_BYTES and (more := tls.recv(MAX_REASON_BYTES - len(reason))):
        reason += more
    raise PeerRefusedError(f"{peer} refuses us: {reason.decode(errors='replace')}")


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
