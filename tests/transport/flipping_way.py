"""A way between two ends that changes single bits of what it carries, in both directions."""

import socket
import threading
from contextlib import suppress
from random import Random
from typing import Self


class FlippingWay:
    """Listens on a port of its own, and carries each connection on to `port`."""

    def __init__(self, port: int, mean_bytes: float, seed: int = 0) -> None:
        """`mean_bytes`: between two changed bits."""
        self.flips = 0
        self._port = port
        self._mean_bytes = mean_bytes
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._left = self._distance()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._shut(self._listener)
        self._threads[0].join()
        for sock in self._sockets:
            self._shut(sock)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += near, far
            thread = threading.Thread(target=self._serve, args=(near, far))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._carry, args=(far, near))
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(self._flipped(data))
        self._shut(source)
        self._shut(sink)

    def _flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        with self._lock:
            at = self._left
            while at < len(data):
                changed[at] ^= 1 << self._random.randrange(8)
                self.flips += 1
                at += 1 + self._distance()
            self._left = at - len(data)
        return bytes(changed)

    def _distance(self) -> int:
        return int(self._random.expovariate(1 / self._mean_bytes))

    def _shut(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
