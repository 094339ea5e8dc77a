"""Real connections as bytes, and what turns almost-frames into frames so that a fuzzer gets past the checksums."""

import struct

import msgspec

from prfaas.core.ids import TransferId
from prfaas.wire.header import (
    HEADER_BYTES,
    MAGIC,
    NO_OBJECT,
    NO_TRANSFER,
    VERSION,
    Codec,
    FrameHeader,
    Kind,
    ObjectKey,
    payload_digest,
)
from prfaas.wire.messages import Hello, encode
from tests.wire.small import OPEN, PIECES, TRANSFER, content, header, manifest

HELLO = Hello(versions=(3,), instance_id="prefill-0", cluster="east", session=b"0123456789abcdef")


def message(kind: Kind, payload: bytes, transfer_id: TransferId = TRANSFER) -> bytes:
    """One message's frame."""
    size = len(payload)
    head = FrameHeader(kind, transfer_id, 1, NO_OBJECT, Codec.RAW, size, size, payload_digest([payload]))
    return head.pack() + payload


def object_frame(key: ObjectKey, payload: bytes | None = None) -> bytes:
    """An OBJECT; `payload`: other bytes than those that its header is for."""
    return header(key).pack() + (content(key) if payload is None else payload)


GREETING = message(Kind.HELLO, encode(HELLO), NO_TRANSFER)
START = GREETING + message(Kind.OPEN, encode(OPEN))
OBJECTS = b"".join(object_frame(key) for key in PIECES)
MANIFEST = message(Kind.MANIFEST, encode(manifest()))
SEEDS = {
    "whole": START + OBJECTS + MANIFEST,
    "manifest_first": START + MANIFEST + OBJECTS,
    "opened_twice": START + object_frame(PIECES[3]) + message(Kind.OPEN, encode(OPEN)) + OBJECTS + MANIFEST,
    "corrupt": START + object_frame(PIECES[3], b"\xff" * 112) + OBJECTS + MANIFEST,
    "cancelled": START + object_frame(PIECES[0]) + message(Kind.CANCEL, b""),
    "probe": START + message(Kind.PROBE, bytes(100)),
    "wrong_secret": GREETING + message(Kind.OPEN, encode(msgspec.structs.replace(OPEN, secret=b"x" * 16))),
    "other_digest": START + OBJECTS + message(Kind.MANIFEST, encode(manifest(*PIECES[:4]))),
}


def repaired(stream: bytes) -> bytes:
    """The same frames with magic, version, flags, digests and checksums made right, as far as headers reach."""
    data = bytearray(stream)
    at = 0
    while at + HEADER_BYTES <= len(data):
        size = min(struct.unpack_from("<I", data, at + 44)[0], len(data) - at - HEADER_BYTES)
        payload = bytes(data[at + HEADER_BYTES : at + HEADER_BYTES + size])
        struct.pack_into("<4sH", data, at, MAGIC, VERSION)
        struct.pack_into("<IQI", data, at + 44, size, payload_digest([payload]), 0)
        struct.pack_into("<I", data, at + 60, payload_digest([bytes(data[at : at + 60])]) & 0xFFFFFFFF)
        at += HEADER_BYTES + size
    return bytes(data)
