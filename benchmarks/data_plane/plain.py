"""The floor: one blocking Python socket, from the sender's page memory into the receiver's, no frames, no digests."""

import socket
import time

from benchmarks.data_plane.memory import PromptMemory
from benchmarks.data_plane.rounds import Sent, process_cpu_s
from prfaas.config.sections import split_address

PIECE_BYTES = 1 << 20
ARRIVED = b"\x06"


def congestion_control(sock: socket.socket) -> str:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def default_congestion_control() -> str:
    """What a socket gets on this loopback that asks for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        return congestion_control(sock)


class PlainReceiver:
    """Takes prompts from one connection, which stays open between rounds."""

    def __init__(self, memory: PromptMemory, host: str) -> None:
        self._memory = memory
        self._pieces = memory.pieces(PIECE_BYTES)
        self._listener = socket.create_server((host, 0))
        self._sock: socket.socket | None = None
        self._prompts = 0
        self.address = f"{host}:{self._listener.getsockname()[1]}"

    def expect(self, prompts: int) -> None:
        self._prompts = prompts

    def wait(self) -> None:
        if self._sock is None:
            self._sock, _ = self._listener.accept()
        for _ in range(self._prompts):
            for piece in self._pieces:
                _fill(self._sock, piece)
        self._sock.sendall(ARRIVED)

    def cpu_s(self) -> float:
        return process_cpu_s()

    def digest(self) -> int:
        return self._memory.dense_digest()


class PlainSender:
    """The other end; `control` is its socket's congestion control."""

    def __init__(self, memory: PromptMemory, address: str, control: str) -> None:
        self._memory = memory
        self._pieces = memory.pieces(PIECE_BYTES)
        self._sock = socket.create_connection(split_address(address))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())

    def send(self, prompts: int) -> Sent:
        started, spent_s = time.perf_counter(), process_cpu_s()
        for _ in range(prompts):
            for piece in self._pieces:
                self._sock.sendall(piece)
        assert self._sock.recv(1) == ARRIVED
        return Sent(time.perf_counter() - started, process_cpu_s() - spent_s)

    def digest(self) -> int:
        return self._memory.dense_digest()


def _fill(sock: socket.socket, view: memoryview) -> None:
    while view:
        view = view[sock.recv_into(view) :]
