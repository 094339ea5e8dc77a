"""Both ends of the wire, written from docs/wire-format.md alone: nothing of prfaas is imported here.

They do what the document asks and no more: one thread per connection, no window, plain TCP.
"""

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec
import xxhash

HELLO, WELCOME, OPEN, ACCEPTED, OBJECT, MANIFEST, ACK, RESEND, COMMITTED, REJECTED = range(1, 11)
FIELDS = struct.Struct("<4sHH16sIHBBIIIIQI")
HEADER_BYTES = 64
NO_TRANSFER = bytes(16)

Rows = tuple[int, int, int, int]
"""Layer, tensor, start, end."""


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    transfer_id: bytes
    epoch: int
    rows: Rows
    codec: int
    digest: int
    payload: bytes

    @property
    def intact(self) -> bool:
        return xxh3(self.payload) == self.digest

    @property
    def message(self) -> dict[str, Any]:
        assert self.intact
        found: dict[str, Any] = msgspec.msgpack.decode(self.payload)
        return found


def xxh3(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)


class Line:
    """One connection of either end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)

    def send(
        self,
        kind: int,
        message: dict[str, Any] | bytes = b"",
        transfer: tuple[bytes, int] = (NO_TRANSFER, 0),
        rows: Rows = (0, 0, 0, 0),
        damage: int = 0,
    ) -> None:
        """`damage` is added to the payload's first byte after the digest was computed."""
        payload = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
        layer, tensor, start, end = rows
        size = len(payload)
        fields = FIELDS.pack(b"PFKV", 3, kind, *transfer, layer, tensor, 0, start, end, size, size, xxh3(payload), 0)
        if damage:
            payload = bytes([(payload[0] + damage) % 256]) + payload[1:]
        self.sock.sendall(fields + struct.pack("<I", xxh3(fields) & 0xFFFFFFFF) + payload)

    def read(self) -> Frame | None:
        """None at the end of the connection."""
        header = self._exactly(HEADER_BYTES)
        if header is None:
            return None
        assert xxh3(header[:60]) & 0xFFFFFFFF == struct.unpack("<I", header[60:])[0]
        magic, version, kind, transfer_id, epoch, layer, tensor, codec, start, end, _, size, digest, flags = (
            FIELDS.unpack(header[:60])
        )
        assert (magic, version, flags) == (b"PFKV", 3, 0)
        payload = self._exactly(size)
        assert payload is not None
        return Frame(kind, transfer_id, epoch, (layer, tensor, start, end), codec, digest, payload)

    def expect(self, kind: int) -> Frame:
        """The next frame that is no ACK."""
        while (frame := self.read()) is not None and frame.kind == ACK:
            pass
        assert frame is not None
        assert frame.kind == kind, f"{frame} instead of kind {kind}"
        return frame

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                got = self.sock.recv(size - len(data))
            except ConnectionError:
                got = b""
            if not got:
                return None
            data += got
        return bytes(data)


def greeted(address: tuple[str, int], session: bytes) -> Line:
    """A sender's connection after its greeting."""
    line = Line(socket.create_connection(address))
    line.send(HELLO, {"versions": [3], "instance_id": "alien-0", "cluster": "mars", "session": session, "mood": "good"})
    assert line.expect(WELCOME).message["version"] == 3
    return line


def manifest_of(objects: dict[Rows, bytes], opening: dict[str, Any]) -> dict[str, Any]:
    """For objects that were all sent raw."""
    return {
        "prompt_tokens": opening["prompt_tokens"],
        "held_tokens": opening["held_tokens"],
        "first_token_id": 42,
        "objects": [[*rows, 0, len(data), xxh3(data)] for rows, data in objects.items()],
        "tokens_computed": opening["prompt_tokens"],
        "tokens_reused": 0,
        "queue_ms": 0.0,
        "prefill_ms": 1.5,
    }


def covered(rows: Rows, received: list[list[int]]) -> bool:
    layer, tensor, start, end = rows
    return any([layer, tensor] == r[:2] and r[2] <= start and end <= r[3] for r in received)


@dataclass
class AlienReceiver:
    """Accepts connections of one sender, asks for the first object again and again, and once hangs up instead."""

    num_resends: int
    hang_up_at: int
    """Which of all objects to end a connection for."""
    first: Rows | None = None
    objects: dict[Rows, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] | None = None
    opened: int = 0
    num_objects: int = 0
    committed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """After the sender has closed its connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        for line in self._lines:
            line.sock.close()

    def _run(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            line = Line(sock)
            with self._lock:
                self._lines.append(line)
            self._run(partial(self._serve, line))

    def _serve(self, line: Line) -> None:
        dealt_with = 0
        while (frame := line.read()) is not None:
            with self._lock:
                if frame.kind != OBJECT:
                    self._message(line, frame)
                    continue
                self.num_objects += 1
                dealt_with += 1
                if self.num_objects == self.hang_up_at:
                    line.sock.close()
                    return
                if self._wanted(line, frame):
                    line.send(ACK, {"frames": dealt_with, "credit_bytes": 1 << 20})

    def _wanted(self, line: Line, frame: Frame) -> bool:
        """False if it is asked for again; the ACK then comes with the next frame's."""
        assert frame.intact
        transfer = frame.transfer_id, frame.epoch
        self.first = self.first or frame.rows
        if frame.rows == self.first and self.num_resends:
            self.num_resends -= 1
            line.send(RESEND, b"", transfer, frame.rows)
            return False
        self.objects[frame.rows] = frame.payload
        self._commit(line, transfer)
        return True

    def _message(self, line: Line, frame: Frame) -> None:
        transfer = frame.transfer_id, frame.epoch
        if frame.kind == HELLO:
            assert 3 in frame.message["versions"]
            limits = {"max_frame_bytes": 4096, "credit_bytes": 1 << 20, "max_streams": 4}
            line.send(WELCOME, {"version": 3, "instance_id": "alien-1", "cluster": "mars", "epoch": 7, **limits})
        elif frame.kind == OPEN:
            self.opened += 1
            if self.committed.is_set():
                line.send(COMMITTED, b"", transfer)
            else:
                line.send(ACCEPTED, {"received": [list(rows) for rows in self.objects]}, transfer)
        elif frame.kind == MANIFEST:
            assert self.manifest in (None, frame.message)
            self.manifest = frame.message
            self._commit(line, transfer)

    def _commit(self, line: Line, transfer: tuple[bytes, int]) -> None:
        if self.manifest is None or self.committed.is_set():
            return
        listed = {tuple(o[:4]): o[4:] for o in self.manifest["objects"]}
        if listed == {rows: [0, len(data), xxh3(data)] for rows, data in self.objects.items()}:
            self.committed.set()
            line.send(COMMITTED, b"", transfer)
