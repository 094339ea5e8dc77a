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
from prfaas.transport.tls_receiving_channel import TlsReceivingChannel
from prfaas.transport.tls_server import TlsServer

Tls = ssl.SSLSocket | TlsServer
"""Of the end that connects, and of the one that accepts."""

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
    try:
        tls = _encrypted(sock, credentials, server_side, timeout_s, peer)
    except PeerRefusedError:
        credentials.count_refused("data")
        raise
    return TlsReceivingChannel(tls, peer) if isinstance(tls, TlsServer) else TlsChannel(tls, peer)


def _encrypted(sock: socket.socket, credentials: Credentials, server_side: bool, timeout_s: float, peer: str) -> Tls:
    tls: Tls
    if server_side:
        tls = TlsServer(sock, credentials.server_context(), timeout_s)
    else:
        tls = _client(sock, credentials, timeout_s, peer)
    try:
        tls.do_handshake()
        _exchange_verdicts(tls, credentials.refusal(_names(tls, peer)), peer)
    except OSError as error:
        tls.close()
        raise _typed(error, peer, timeout_s) from error
    except PrfaasError:
        tls.close()
        raise
    return tls


def _client(sock: socket.socket, credentials: Credentials, timeout_s: float, peer: str) -> ssl.SSLSocket:
    sock.settimeout(timeout_s)
    try:
        return credentials.client_context().wrap_socket(
            sock, do_handshake_on_connect=False, server_hostname=credentials.fleet_name
        )
    except OSError as error:
        sock.close()
        raise PeerLostError(f"the connection to {peer} ended before it was encrypted: {error}") from error


def _names(tls: Tls, peer: str) -> list[str]:
    shown = tls.getpeercert(binary_form=True)
    assert shown is not None, "both contexts ask for a certificate"
    try:
        return dns_names(x509.load_der_x509_certificate(shown))
    except ValueError as error:
        # OpenSSL was less strict.
        raise PeerRefusedError(f"{peer} is refused: its certificate cannot be read: {error}") from error


def _exchange_verdicts(tls: Tls, refusal: str | None, peer: str) -> None:
    mine = (refusal or "").encode()[:MAX_REASON_BYTES]
    verdict = len(mine).to_bytes(LENGTH_BYTES, "little") + mine
    # The client listens first: if the server did not accept its certificate, what it sent would only meet a closed
    # connection, and the reason be lost. Both are heard in any case, since bytes left unread could undo ours.
    if tls.server_side:
        tls.sendall(verdict)
    theirs = _read(tls, int.from_bytes(_read(tls, LENGTH_BYTES, peer), "little"), peer)
    if not tls.server_side:
        tls.sendall(verdict)
    if refusal is not None:
        raise PeerRefusedError(f"{peer} is refused: {refusal}")
    if theirs:
        raise PeerRefusedError(f"{peer} refuses us: {theirs.decode(errors='replace')}")


def _read(tls: Tls, count: int, peer: str) -> bytes:
    read = bytearray()
    while len(read) < count:
        more = tls.recv(count - len(read))
        if not more:
            raise PeerLostError(f"{peer} ended the connection right after the TLS handshake; its log may say why")
        read += more
    return bytes(read)


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
