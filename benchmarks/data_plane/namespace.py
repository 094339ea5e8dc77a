"""A network namespace whose loopback has another congestion control, for sockets that choose none themselves."""

import ctypes
import os
import shutil
import subprocess

_CLONE_NEWNET = 0x4000_0000


def can_enter() -> bool:
    return os.geteuid() == 0 and shutil.which("ip") is not None


def leave_network() -> None:
    """Moves this process out of the machine's network. It must have no other threads yet. Raises OSError.

    Nothing outside sees any of it, and nothing is left to restore.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def enter(control: str) -> None:
    """Leaves the machine's network for a loopback with that congestion control. Raises OSError.

    The route carries the choice: kernels refuse a namespace's sysctl when the algorithm is a restricted one.
    """
    leave_network()
    for where in ("127.0.0.0/8", "127.0.0.1"):
        route = f"ip route replace local {where} dev lo table local proto kernel scope host src 127.0.0.1"
        subprocess.run([*route.split(), "congctl", control], check=True)


def join(pid: int) -> None:
    """Moves this process to the network of another. It must have no other threads yet. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(network, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot join the network namespace of process {pid}")
    finally:
        os.close(network)
