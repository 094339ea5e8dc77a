"""A sender that says whatever a test wants it to say, one frame at a time."""

import contextlib
import secrets
import socket
import struct
from collections.abc import Callable
from typing import Self

import msgspec

from prfaas.core.ids import TransferId
from prfaas.transport.framing import message_frame
from prfaas.wire import messages
from prfaas.wire.header import HEADER_BYTES, NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind, ObjectKey, unpack
from prfaas.wire.messages import Open, encode
from tests.transport.receiving_rig import EPOCH, Receiver
from tests.wire.small import OPEN, PIECES, content, header, manifest_of


class HandSender:
    """One connection; `session` makes two of them one sender's."""

    def __init__(self, receiver: Receiver, *, session: bytes | None = None, hello: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
        receiver.clients.append(self.sock)
        self.session = session or secrets.token_bytes(16)
        self.acked = 0
        if hello:
            self.hello()
            self.welcome = messages.decode(self.expect(Kind.WELCOME), messages.Welcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def hello(self, name: str = "by-hand", versions: tuple[int, ...] = (3,)) -> None:
        self.say(Kind.HELLO, encode(messages.Hello(versions, name, "east", self.session)))

    def say(self, kind: Kind, payload: bytes = b"", transfer_id: TransferId = NO_TRANSFER, epoch: int = EPOCH) -> None:
        self.sock.sendall(message_frame(kind, payload, transfer_id, epoch))

    def open(self, transfer_id: TransferId, opening: Open = OPEN) -> tuple[messages.RowRange, ...]:
        self.say(Kind.OPEN, encode(opening), transfer_id)
        return messages.decode(self.expect(Kind.ACCEPTED, transfer_id), messages.Accepted).received

    def object(self, transfer_id: TransferId, *keys: ObjectKey, edit: Callable[[bytes], bytes] = bytes) -> None:
        """Sends objects, their bytes changed behind the digest by `edit`."""
        for key in keys:
            self.sock.sendall(object_header(transfer_id, key).pack() + edit(content(key)))

    def manifest(self, transfer_id: TransferId, *keys: ObjectKey) -> None:
        self.say(Kind.MANIFEST, encode(manifest_of(keys or PIECES)), transfer_id)

    def probe(self, num_bytes: int) -> None:
        head = FrameHeader(Kind.PROBE, NO_TRANSFER, 0, NO_OBJECT, Codec.RAW, num_bytes, num_bytes, 0)
        self.sock.sendall(head.pack() + bytes(num_bytes))

    def hear(self) -> tuple[FrameHeader, bytes]:
        """The next answer, whatever it is."""
        head = unpack(self._exactly(HEADER_BYTES), max_payload_bytes=messages.MAX_MESSAGE_BYTES)
        return head, self._exactly(head.wire_bytes)

    def expect(self, kind: Kind, of: TransferId | None = None) -> bytes:
        """The payload of the next answer that is no ACK, and about that transfer; it must be of that kind."""
        while True:
            head, payload = self.hear()
            if of is not None and head.transfer_id not in {of, NO_TRANSFER}:
                continue
            if head.kind is Kind.ACK and kind is not Kind.ACK:
                self.acked = messages.decode(payload, messages.Ack).frames
                continue
            assert head.kind is kind, (head, payload)
            return payload

    def rejected(self) -> str:
        """The code of the refusal that comes next."""
        return messages.decode(self.expect(Kind.REJECTED), messages.Rejected).code

    def acknowledged(self, frames: int) -> None:
        """Returns once so many frames of this connection have been dealt with."""
        while self.acked < frames:
            self.acked = messages.decode(self.expect(Kind.ACK), messages.Ack).frames

    def hung_up(self) -> bool:
        """Waits for the receiver to end the connection, whatever it still says."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(1 << 16):
                pass
        return True

    def reset(self) -> None:
        """Ends the connection as a broken network does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _exactly(self, num_bytes: int) -> bytes:
        data = b""
        while len(data) < num_bytes:
            got = self.sock.recv(num_bytes - len(data))
            assert got, "the receiver hung up"
            data += got
        return data


def object_header(transfer_id: TransferId, key: ObjectKey) -> FrameHeader:
    """Of an object as it should be."""
    return msgspec.structs.replace(header(key), transfer_id=transfer_id, epoch=EPOCH)


def flip(payload: bytes) -> bytes:
    """One bit of it is wrong."""
    return payload[:3] + bytes([payload[3] ^ 4]) + payload[4:]
