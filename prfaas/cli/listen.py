"""Ports: bound before anything is built upon them, so that a taken one is a clear error, not a half-started process."""

import errno
import socket

from prfaas.config.sections import is_wildcard, split_address
from prfaas.core.errors import ConfigError

BACKLOG = 512


def listener(address: str, what: str) -> socket.socket:
    """A listening TCP socket. `what` names the key to change, e.g. "clusters.0.instances.1.data".

    Raises ConfigError.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(taken(address, what, error)) from error
    return sock


def taken(address: str, what: str, error: OSError) -> str:
    """Why `address` cannot be listened on, and what to change."""
    reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be bound ({error.strerror})"
    return f"{what}: {address} {reason}; choose another with --set {what}=HOST:PORT"


def advertised(port: int, address: str, advertise_host: str | None, what: str) -> str:
    """host:port that peers dial. Raises ConfigError for a wildcard host without `advertise_host`."""
    host, _ = split_address(address)
    if advertise_host:
        host = advertise_host
    elif is_wildcard(host):
        raise ConfigError(f"{what}: {address} listens everywhere, so peers need advertise_host to know whom to dial")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
