"""Whole frames in and out of a blocking socket."""

import socket
from collections.abc import Sequence

from prfaas.core.errors import DigestError, PeerLostError
from prfaas.core.ids import TransferId
from prfaas.wire.header import (
    HEADER_BYTES,
    NO_OBJECT,
    NO_TRANSFER,
    Codec,
    FrameHeader,
    Kind,
    payload_digest,
    unpack,
)

Buffer = bytes | bytearray | memoryview
# Linux takes at most 1,024 buffers in one sendmsg.
MAX_BUFFERS = 1024


def send_frame(sock: socket.socket, header: FrameHeader, parts: Sequence[Buffer]) -> None:
    """Sends header and payload without joining them. Raises OSError when the connection is gone."""
    views = [memoryview(header.pack()), *(memoryview(p) for p in parts)]
    while views:
        sent = sock.sendmsg(views[:MAX_BUFFERS])
        done = 0
        while done < len(views) and sent >= views[done].nbytes:
            sent -= views[done].nbytes
            done += 1
        del views[:done]
        if sent:
            views[0] = views[0][sent:]


def send_message(
    sock: socket.socket, kind: Kind, payload: bytes = b"", transfer: TransferId = NO_TRANSFER, epoch: int = 0
) -> None:
    """A frame whose payload is one small message."""
    digest = payload_digest([payload])
    header = FrameHeader(kind, transfer, epoch, NO_OBJECT, Codec.RAW, len(payload), len(payload), digest)
    send_frame(sock, header, [payload])


def receive_header(sock: socket.socket, max_payload_bytes: int) -> FrameHeader | None:
    """The next header, or None at a clean end of the stream. Raises WireError, PeerLostError or OSError."""
    data = bytearray(HEADER_BYTES)
    got = _fill(sock, memoryview(data))
    if got == 0:
        return None
    if got < HEADER_BYTES:
        raise PeerLostError("the connection ended inside a frame header")
    return unpack(data, max_payload_bytes=max_payload_bytes)


def receive_payload(sock: socket.socket, header: FrameHeader, into: memoryview) -> memoryview:
    """Fills the start of `into` with the payload and verifies it. Raises DigestError, PeerLostError or OSError."""
    payload = into[: header.wire_bytes]
    if _fill(sock, payload) < header.wire_bytes:
        raise PeerLostError("the connection ended inside a payload")
    if payload_digest([payload]) != header.digest:
        raise DigestError(f"the payload of {header.kind.name} {header.key} is corrupt")
    return payload


def _fill(sock: socket.socket, view: memoryview) -> int:
    """Bytes read: all of `view`, or fewer at the end of the stream."""
    got = 0
    while got < len(view):
        n = sock.recv_into(view[got:])
        if n == 0:
            break
        got += n
    return got
