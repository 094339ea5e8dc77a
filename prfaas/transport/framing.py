"""The frames that carry no object, as bytes."""

from prfaas.core.ids import TransferId
from prfaas.wire.header import NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind, payload_digest

_NOTHING_DIGEST = payload_digest([])


def message_frame(kind: Kind, payload: bytes = b"", transfer: TransferId = NO_TRANSFER, epoch: int = 0) -> bytes:
    """A frame whose payload is one small message, or nothing."""
    digest = payload_digest([payload])
    header = FrameHeader(kind, transfer, epoch, NO_OBJECT, Codec.RAW, len(payload), len(payload), digest)
    return header.pack() + payload


def resend_frame(corrupt: FrameHeader) -> bytes:
    """Asks for the object of that frame again."""
    return FrameHeader(
        Kind.RESEND, corrupt.transfer_id, corrupt.epoch, corrupt.key, Codec.RAW, 0, 0, _NOTHING_DIGEST
    ).pack()
