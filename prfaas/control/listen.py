"""Ports: bound before anything is built upon them, so that a taken one is a clear error, not a half-started process."""

import errno
import os
import socket

from prfaas.config.sections import is_wildcard, split_address
from prfaas.core.errors import ConfigError


def listener(address: str, key: str, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket. `key` is the dotted key that chose the address. Raises ConfigError.

    Processes that have `shared` listeners on one address get its connections in turns, as the kernel deals them out.
    """
    sock = _bound(address, key, shared=shared)
    try:
        # Two sockets that are only bound could share a port; one that listens owns it.
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        raise ConfigError(unusable(address, key, error)) from error
    return sock


def reserved(address: str, key: str) -> socket.socket:
    """A socket that keeps an address for the shared listeners of child processes, and takes no connection itself.

    Raises ConfigError where somebody listens there.
    """
    # With a shared one that somebody else listens, too, would be no error.
    listener(address, key).close()
    return _bound(address, key, shared=True)


def _bound(address: str, key: str, *, shared: bool) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(unusable(address, key, error)) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except OSError as error:
        sock.close()
        raise ConfigError(unusable(address, key, error)) from error
    return sock


def unusable(address: str, key: str, error: OSError) -> str:
    """Why `address` cannot be listened on, and what to change."""
    if error.errno == errno.EADDRINUSE:
        return f"{key}: {address} is already in use; choose another port with --set {key}=HOST:PORT"
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return f"{key}: cannot listen on {address}: {reason}; choose another address with --set {key}=HOST:PORT"


def advertised(port: int, address: str, advertise_host: str | None, key: str) -> str:
    """host:port that peers dial. Raises ConfigError for a wildcard host without `advertise_host`."""
    host, _ = split_address(address)
    if advertise_host:
        host = advertise_host
    elif is_wildcard(host):
        raise ConfigError(f"{key}: {address} listens everywhere, so peers need advertise_host to know whom to dial")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
