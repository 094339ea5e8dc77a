"""A tiny model shape and the complete set of objects for it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from prfaas.core.ids import TransferId
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.wire.header import Codec, FrameHeader, Kind, ObjectKey, payload_digest
from prfaas.wire.messages import Manifest, ManifestObject, Open
from prfaas.wire.tensors import Expectation

SECRET = b"s" * 16
FINGERPRINT = "f" * 32
TOKENS = 10
TRANSFER = TransferId(b"t" * 16)
MLA = LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (4,), "float32"),))
KDA = LayerCache(
    "kda",
    paged=False,
    tensors=(CacheTensor("state", (2, 4, 4), "float32"), CacheTensor("conv", (3, 8), "float32")),
)
SHAPE = ModelShape("kimi_linear", (KDA, MLA), max_context_tokens=1024)
BF16_SHAPE = ModelShape(
    "kimi_linear",
    (
        LayerCache("kda", paged=False, tensors=(KDA.tensors[0], CacheTensor("conv", (3, 8), "bfloat16"))),
        LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (4,), "bfloat16"),)),
    ),
    max_context_tokens=1024,
)
EXPECTATION = Expectation(SHAPE, {"float32": SHAPE, "bfloat16": BF16_SHAPE}, FINGERPRINT, TOKENS, SECRET)
OPEN = Open(SECRET, FINGERPRINT, TOKENS, held_tokens=0, kv_dtype="float32")

# Heads and taps of layer 0, tokens of layer 1: everything, in uneven pieces.
PIECES = (
    ObjectKey(0, 0, 0, 1),
    ObjectKey(0, 0, 1, 2),
    ObjectKey(0, 1, 0, 3),
    ObjectKey(1, 0, 0, 7),
    ObjectKey(1, 0, 7, 10),
)


def content(key: ObjectKey) -> bytes:
    """Bytes that are different for every row of every tensor."""
    row = SHAPE.layers[key.layer].row_bytes(key.tensor)
    return b"".join(bytes([17 * key.layer + 5 * key.tensor + i]) * row for i in range(key.start, key.end))


def header(key: ObjectKey, payload: bytes | None = None) -> FrameHeader:
    """The OBJECT header that belongs to `content(key)`."""
    data = content(key) if payload is None else payload
    return FrameHeader(Kind.OBJECT, TRANSFER, 1, key, Codec.RAW, len(data), len(data), payload_digest([data]))


def entry(key: ObjectKey) -> ManifestObject:
    return entry_of(header(key))


def entry_of(h: FrameHeader) -> ManifestObject:
    """What a manifest says of an object that went out with this header."""
    return ManifestObject(h.key.layer, h.key.tensor, h.key.start, h.key.end, int(h.codec), h.wire_bytes, h.digest)


def manifest(*keys: ObjectKey) -> Manifest:
    """A manifest of these pieces; of all of them when none is given."""
    return manifest_of(keys or PIECES)


def manifest_of(keys: Iterable[ObjectKey], held_tokens: int = 0) -> Manifest:
    """A manifest of exactly these pieces."""
    return manifest_listing([entry(key) for key in keys], held_tokens)


def manifest_listing(objects: Sequence[ManifestObject], held_tokens: int = 0) -> Manifest:
    """A manifest with these entries."""
    return Manifest(
        prompt_tokens=TOKENS,
        held_tokens=held_tokens,
        first_token_id=42,
        objects=tuple(objects),
        tokens_computed=TOKENS,
        tokens_reused=0,
        queue_ms=1.0,
        prefill_ms=2.0,
    )


@st.composite
def pieces(draw: st.DrawFn, expectation: Expectation = EXPECTATION) -> list[ObjectKey]:
    """All that a receiver lacks, cut anywhere, in any order."""
    keys = []
    for layer, tensor in expectation.tensors():
        rows = expectation.rows(layer, tensor)
        inner = draw(st.sets(st.integers(rows.start + 1, rows.stop - 1))) if len(rows) > 1 else set()
        cuts = [rows.start, *sorted(inner), rows.stop]
        keys += [ObjectKey(layer, tensor, low, high) for low, high in pairwise(cuts) if low < high]
    return draw(st.permutations(keys))
