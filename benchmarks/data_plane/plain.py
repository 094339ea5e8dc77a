"""The floor: one blocking Python socket, from the sender's page memory into the receiver's, no frames, no digests."""

import socket

from benchmarks.data_plane.memory import PromptMemory

PIECE_BYTES = 1 << 20
ARRIVED = b"\x06"


def set_congestion_control(sock: socket.socket, name: str) -> None:
    """For one socket, whatever the system's default is; what counts is the sender's. Raises OSError if unknown."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def congestion_control(sock: socket.socket) -> str:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


class PlainReceiver:
    """Takes prompts from one connection, which stays open between rounds."""

    def __init__(self, memory: PromptMemory) -> None:
        self._pieces = memory.pieces(PIECE_BYTES)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sock: socket.socket | None = None
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def expect(self, prompts: int) -> None:
        self._prompts = prompts

    def wait(self) -> dict[str, float]:
        if self._sock is None:
            self._sock, _ = self._listener.accept()
        for _ in range(self._prompts):
            for piece in self._pieces:
                _fill(self._sock, piece)
        self._sock.sendall(ARRIVED)
        return {}


class PlainSender:
    """The other end; `control` is its socket's congestion control."""

    def __init__(self, memory: PromptMemory, address: str, control: str) -> None:
        self._pieces = memory.pieces(PIECE_BYTES)
        self._sock = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_congestion_control(self._sock, control)

    def send(self, prompts: int) -> dict[str, float]:
        for _ in range(prompts):
            for piece in self._pieces:
                self._sock.sendall(piece)
        assert self._sock.recv(1) == ARRIVED
        return {}


def _fill(sock: socket.socket, view: memoryview) -> None:
    while view:
        view = view[sock.recv_into(view) :]
