"""Which TCP congestion control data connections use, and whether this kernel lets us choose. Opens no connection."""

import socket
from pathlib import Path

from prfaas.core.errors import ConfigError

AUTO = "auto"
SHORT_PATH = "cubic"
LONG_PATH = "bbr"
SHORT_RTT_S = 0.001
HYSTERESIS = 1.5
"""A path whose round trip lies around the border keeps what it has."""
_NAME_BYTES = 16
_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def choose(configured: str, min_rtt_s: float | None, present: str | None) -> str | None:
    """The algorithm for a path, by the round trip of its TCP connections; None: leave it as it is.

    BBR paces, which costs half of what loopback or a LAN can carry; CUBIC takes each lost packet of a long path for a
    full one, and at 20 ms and 0.1 % loss gets a fifth of 1 Gbit/s.
    """
    if configured != AUTO:
        return configured
    if min_rtt_s is None:
        return None
    border_s = SHORT_RTT_S
    if present == SHORT_PATH:
        border_s *= HYSTERESIS
    elif present == LONG_PATH:
        border_s /= HYSTERESIS
    return SHORT_PATH if min_rtt_s < border_s else LONG_PATH


def may_set(name: str) -> bool:
    """Whether this process may use the algorithm: the kernel has it, and allows it to us."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        except OSError:
            return False
    return True


def in_use(sock: socket.socket) -> str:
    """The algorithm of a connection. Raises OSError for a closed one."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES).rstrip(b"\0").decode("ascii")


def check_congestion_control(configured: str) -> None:
    """Raises ConfigError when the configuration names an algorithm that this process cannot use."""
    if configured == AUTO or may_set(configured):
        return
    available = _AVAILABLE.read_text(encoding="ascii").split() if _AVAILABLE.exists() else []
    if configured in available:
        raise ConfigError(
            f"transport.congestion_control is {configured!r}, which the kernel has but keeps for root; add it to the "
            "sysctl net.ipv4.tcp_allowed_congestion_control, or set auto"
        )
    raise ConfigError(
        f"transport.congestion_control is {configured!r}, which this kernel does not have; it has "
        f"{', '.join(available) or 'none that it tells of'}. Load its module (tcp_{configured}), or set auto"
    )
