"""Ports: bound before anything is built upon them, so that a taken one is a clear error, not a half-started process."""

import errno
import os
import socket

from prfaas.config.sections import is_wildcard, split_address
from prfaas.core.errors import ConfigError


def listener(address: str, key: str) -> socket.socket:
    """A listening TCP socket. `key` is the dotted key that chose the address. Raises ConfigError."""
    sock = _bound(address, key)
    try:
        # Two sockets that are only bound could share a port; one that listens owns it.
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        raise ConfigError(unusable(address, key, error)) from error
    return sock


def shared(address: str, key: str) -> socket.socket:
    """A bound socket for one of several processes on one address: of those that listen, each gets its share of the
    connections from the kernel. Raises ConfigError."""
    return _bound(address, key, socket.SO_REUSEPORT)


def reserved(address: str, key: str) -> socket.socket:
    """The same for the process that starts the others: it keeps the address while it does not listen itself.

    Raises ConfigError also where somebody listens there who shares it.
    """
    listener(address, key).close()
    return shared(address, key)


def _bound(address: str, key: str, *options: int) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(unusable(address, key, error)) from error
    try:
        for option in (socket.SO_REUSEADDR, *options):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
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
