"""The two ends of the line between an engine and its front: batches of messages over one ZeroMQ pair.

Knows no processes: both ends may live in one. An end belongs to one thread.
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import zmq

from prfaas.engine.messages import Command, Event

LINGER_MS = 1000
"""What has been sent reaches the other end, if it lives, although this one closes at once."""

In = TypeVar("In")
Out = TypeVar("Out")


class Link(Generic[In, Out]):
    """One end. It never waits for the other one to read: what it sends is a few dozen bytes per token."""

    def __init__(self, socket: "zmq.Socket[bytes]", incoming: "msgspec.msgpack.Decoder[list[In]]", fd: int) -> None:
        self._socket = socket
        self._decoder = incoming
        self._encoder = msgspec.msgpack.Encoder()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.fd = fd
        """Leads to the front's end; what the engine's process inherits."""

    def send(self, messages: Sequence[Out]) -> bool:
        """Sends one batch. False: there is nobody at the other end (any more)."""
        try:
            self._socket.send(self._encoder.encode(messages), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def take(self, *, wait: bool, at_most_s: float | None = None) -> list[In]:
        """All messages of the next batch, for which it waits (`at_most_s`) if `wait`; none if there is no batch.

        A wait also ends, with nothing, when another thread calls `wake`. Raises msgspec.DecodeError for what only
        another version of this program can have sent.
        """
        if wait:
            self._wait(at_most_s)
        try:
            return self._decoder.decode(self._socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return []

    def wake(self) -> None:
        """Ends a `take` that waits, or else the next one that would; any thread may call it while the link is open."""
        os.eventfd_write(self._woken, 1)

    def _wait(self, at_most_s: float | None) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        poller.poll(None if at_most_s is None else math.ceil(at_most_s * 1e3))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._woken)

    def fileno(self) -> int:
        """Becomes readable when something changes; then, and after every `send`, take until nothing is left."""
        return self._socket.fileno()

    def close(self) -> None:
        """Gives everything back."""
        context = self._socket.context
        self._socket.close(linger=LINGER_MS)
        context.term()
        os.close(self.fd)
        os.close(self._woken)


FrontLink = Link[Event, Command]
EngineLink = Link[Command, Event]


def listen() -> FrontLink:
    """The front's end. Its `fd` leads there, and nothing else does: the name in the file system is gone already.

    Thus no stranger can connect, and nothing is left behind however the process ends.
    """
    socket = _socket()
    directory = Path(tempfile.mkdtemp(prefix="prfaas-"))
    path = directory / "engine"
    try:
        socket.bind(f"ipc://{path}")
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        path.unlink()
    finally:
        directory.rmdir()
    return Link(socket, msgspec.msgpack.Decoder(list[Event]), fd)


def connect(fd: int) -> EngineLink:
    """The engine's end, from the descriptor that it inherited and now owns."""
    socket = _socket()
    # Linux lets a socket without a name be reached through a descriptor of it.
    socket.connect(f"ipc:///proc/self/fd/{fd}")
    return Link(socket, msgspec.msgpack.Decoder(list[Command]), fd)


def _socket() -> "zmq.Socket[bytes]":
    """A pair has one peer, and refuses a second. Without a high-water mark sending never waits."""
    socket = zmq.Context().socket(zmq.PAIR)
    socket.sndhwm = socket.rcvhwm = 0
    return socket
