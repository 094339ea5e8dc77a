"""The conversation of docs/wire-format.md; `python -m tests.wire.worked_example` prints the document's blocks."""

from typing import Any

from prfaas.core.ids import TransferId
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.wire.header import NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind, ObjectKey, payload_digest
from prfaas.wire.messages import Accepted, Ack, Hello, Manifest, ManifestObject, Open, Welcome, encode
from prfaas.wire.tensors import Expectation

SHAPE = ModelShape(
    "example",
    (LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (2,), "bfloat16"),)),),
    max_context_tokens=16,
)
TRANSFER = TransferId(bytes(range(16)))
SECRET = bytes(range(16, 32))
EPOCH = 7
EXPECTATION = Expectation(SHAPE, {"bfloat16": SHAPE}, "f00d", prompt_tokens=3, secret=SECRET, held_tokens=1)
KEY = ObjectKey(layer=0, tensor=0, start=1, end=3)
ROWS = bytes.fromhex("803f 0040 4040 8040")
"""1.0, 2.0 of token 1 and 3.0, 4.0 of token 2, in bf16."""
DIGEST = payload_digest([ROWS])


def frame(kind: Kind, message: Any = None, transfer_id: TransferId = TRANSFER, epoch: int = EPOCH) -> bytes:
    payload = b"" if message is None else encode(message)
    size = len(payload)
    return (
        FrameHeader(kind, transfer_id, epoch, NO_OBJECT, Codec.RAW, size, size, payload_digest([payload])).pack()
        + payload
    )


OBJECT = FrameHeader(Kind.OBJECT, TRANSFER, EPOCH, KEY, Codec.RAW, len(ROWS), len(ROWS), DIGEST).pack() + ROWS
CONVERSATION = (
    ("HELLO", frame(Kind.HELLO, Hello((3,), "p0", "east", bytes(range(32, 48))), NO_TRANSFER, 0)),
    ("WELCOME", frame(Kind.WELCOME, Welcome(3, "d0", "west", EPOCH, 1 << 20, 64 << 20, 64), NO_TRANSFER, 0)),
    ("OPEN", frame(Kind.OPEN, Open(SECRET, "f00d", 3, 1, "bfloat16"))),
    ("ACCEPTED", frame(Kind.ACCEPTED, Accepted(()))),
    ("OBJECT", OBJECT),
    ("ACK", frame(Kind.ACK, Ack(1, 64 << 20), NO_TRANSFER, 0)),
    (
        "MANIFEST",
        frame(
            Kind.MANIFEST,
            Manifest(3, 1, 42, (ManifestObject(0, 0, 1, 3, int(Codec.RAW), len(ROWS), DIGEST),), 3, 0, 0.5, 12.0),
        ),
    ),
    ("COMMITTED", frame(Kind.COMMITTED)),
)


def block(data: bytes) -> str:
    """Hex, 16 bytes a line in groups of four; the header is the first four lines."""
    lines = [data[at : at + 16].hex(" ", -4) for at in range(0, len(data), 16)]
    return "\n".join(lines)


if __name__ == "__main__":
    for name, data in CONVERSATION:
        print(f"{name}:\n\n```hex\n{block(data)}\n```\n")
