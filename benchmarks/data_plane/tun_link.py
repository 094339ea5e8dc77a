"""A wide-area link in user space: two network namespaces joined by TUN devices. Needs root. Knows no TCP.

Each end's process moves itself into a namespace of its own, so nothing outside sees any of it and nothing is left to
restore. A third process reads packets from one device and writes them to the other when they would have arrived.
"""

import contextlib
import fcntl
import gc
import math
import multiprocessing
import os
import select
import shutil
import struct
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from random import Random

from benchmarks.data_plane.namespace import leave_network

SPAWN = multiprocessing.get_context("spawn")
ADDRESSES = ("10.78.0.1", "10.78.0.2")
MTU_BYTES = 9000
_TUN_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x4004_54CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_QUEUE_PACKETS = 20_000
_READS_AT_ONCE = 64
_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class TunProfile:
    """Both directions alike. Packets that find `buffer_s` of the line's time queued are dropped, as by a router."""

    gbit_s: float
    rtt_ms: float
    loss: float
    buffer_s: float = 0.02
    """As much again as fills the link of a 20 ms round trip."""


def why_not() -> str | None:
    """What is missing here to make such a link; None if nothing is."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if not Path(_TUN_DEVICE).exists():
        return f"there is no {_TUN_DEVICE}"
    return None if shutil.which("ip") else "ip (iproute2) is not installed"


def enter_end(index: int) -> int:
    """Moves this process, which must have no other threads yet, to end 0 or 1; returns the device for the link.

    Raises OSError.
    """
    leave_network()
    device = os.open(_TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"wan", _IFF_TUN | _IFF_NO_PI))
    for command in (
        f"ip addr add {ADDRESSES[index]}/24 dev wan",
        f"ip link set wan up mtu {MTU_BYTES} txqueuelen {_QUEUE_PACKETS}",
    ):
        subprocess.run(command.split(), check=True)
    return device


class TunLink:
    """The process between both ends; `devices` are handed over by them through `give_device`."""

    def __init__(self, profile: TunProfile) -> None:
        self._line, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_run, args=(theirs, profile), daemon=True)
        self._process.start()
        theirs.close()

    def join(self, ends: tuple[Connection, Connection]) -> None:
        """Carries packets from now on. Each end must have called `send_handle` with its device on its line."""
        for end in ends:
            device = recv_handle(end)
            send_handle(self._line, device, self._process.pid)
            os.close(device)
        assert self._line.recv_bytes() == b"up"

    def close(self) -> None:
        self._process.kill()
        self._process.join()


class Direction:
    """Packets on their way from one device to the other."""

    def __init__(self, profile: TunProfile, source: int, sink: int, rng: Random) -> None:
        self._bytes_s = profile.gbit_s * 1e9 / 8
        self._delay_s = profile.rtt_ms / 2e3
        self._loss = profile.loss
        self._buffer_s = profile.buffer_s
        self._random = rng.random
        self._free_at_s = -math.inf
        self._packets: deque[tuple[float, bytes]] = deque()
        self.source, self.sink = source, sink

    @property
    def queued(self) -> int:
        """Packets on their way."""
        return len(self._packets)

    def take(self) -> None:
        """Reads what the sender's kernel has; drops what is lost, and what the queue has no room for."""
        for _ in range(_READS_AT_ONCE):
            try:
                packet = os.read(self.source, MTU_BYTES)
            except BlockingIOError:
                return
            now_s = time.monotonic()
            free_at_s = max(now_s, self._free_at_s)
            if self._random() < self._loss or free_at_s - now_s > self._buffer_s:
                continue
            self._free_at_s = free_at_s + len(packet) / self._bytes_s
            self._packets.append((self._free_at_s + self._delay_s, packet))

    def deliver(self) -> float:
        """Writes what has arrived; seconds until the next packet does."""
        packets = self._packets
        while packets:
            wait_s = packets[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            with contextlib.suppress(BlockingIOError):
                os.write(self.sink, packets.popleft()[1])
        return _IDLE_S


def _run(line: Connection, profile: TunProfile) -> None:
    """The link's process; it ends with its parent's `close`."""
    devices = [recv_handle(line), recv_handle(line)]
    os.nice(-5)  # it stands for hardware, and must not wait behind those that it carries packets for
    gc.disable()
    rng = Random(1)
    there = Direction(profile, devices[0], devices[1], rng)
    back = Direction(profile, devices[1], devices[0], rng)
    line.send_bytes(b"up")
    while True:
        wait_s = min(there.deliver(), back.deliver())
        readable, _, _ = select.select(devices, (), (), wait_s)
        for direction in (there, back):
            if direction.source in readable:
                direction.take()
