"""The frames that carry no object, as bytes."""

from prfaas.core.ids import TransferId
from prfaas.wire.header import NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind, payload_digest

_NOTHING_DIGEST = payload_digest([])


def message_header(kind: Kind, payload: bytes, transfer_id: TransferId = NO_TRANSFER, epoch: int = 0) -> FrameHeader:
    """Of a frame whose payload is one message."""
    size = len(payload)
    return FrameHeader(kind, transfer_id, epoch, NO_OBJECT, Codec.RAW, size, size, payload_digest([payload]))


def message_frame(kind: Kind, payload: bytes = b"", transfer: TransferId = NO_TRANSFER, epoch: int = 0) -> bytes:
    """A frame whose payload is one small message, or nothing."""
    return message_header(kind, payload, transfer, epoch).pack() + payload


def resend_frame(corrupt: FrameHeader) -> bytes:
    """Asks for the object of that frame again."""
    return FrameHeader(
        Kind.RESEND, corrupt.transfer_id, corrupt.epoch, corrupt.key, Codec.RAW, 0, 0, _NOTHING_DIGEST
    ).pack()
