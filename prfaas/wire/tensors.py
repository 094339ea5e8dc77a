"""What crosses of a model's cache: which rows, of what size, in which codecs. Follows from shapes and the ticket."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from prfaas.core.errors import ManifestError
from prfaas.core.shape import DType, ModelShape
from prfaas.wire.header import Codec, ObjectKey

Tensor = tuple[int, int]
"""Layer and tensor."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the receiver's ticket allows, and what it needs."""

    shape: ModelShape
    """The receiver's cache."""
    sent_shapes: Mapping[DType, ModelShape]
    """The same model's cache at senders of each dtype that can be converted."""
    model_fingerprint: str
    prompt_tokens: int
    secret: bytes
    held_tokens: int = 0
    """Leading tokens whose KV lies in the receiver's pages already, where others may be reading it."""
    codecs: frozenset[Codec] = frozenset({Codec.RAW})
    """Those that the ticket offered."""
    cached_only: bool = False
    """A prefix that the sender has cached, and no first token behind it."""

    def __post_init__(self) -> None:
        assert 0 <= self.held_tokens <= self.prompt_tokens, f"{self.held_tokens} of {self.prompt_tokens} tokens held"

    def rows(self, layer: int, tensor: int) -> range:
        """The rows of a tensor that must come, and the only ones that may."""
        cache = self.shape.layers[layer]
        return range(self.held_tokens if cache.paged else 0, cache.num_rows(tensor, self.prompt_tokens))

    def tensors(self) -> Iterator[Tensor]:
        """All cached tensors of the model, in order."""
        for i, layer in enumerate(self.shape.layers):
            for j in range(len(layer.tensors)):
                yield i, j

    def raw_bytes(self, key: ObjectKey, sent: ModelShape) -> int:
        """Size of an object before encoding, from a cache of shape `sent`.

        Raises ManifestError when the model has no such object, or the receiver holds part of it already.
        """
        layers = sent.layers
        if key.layer >= len(layers) or key.tensor >= len(layers[key.layer].tensors):
            raise ManifestError(f"{key} names a tensor that the model does not have")
        rows = self.rows(key.layer, key.tensor)
        if not rows.start <= key.start < key.end <= rows.stop:
            raise ManifestError(f"{key} lies outside the rows from {rows.start} to {rows.stop} that are awaited")
        return (key.end - key.start) * layers[key.layer].row_bytes(key.tensor)


def usable_codecs(shape: ModelShape, layer: int, tensor: int) -> frozenset[Codec]:
    """The codecs that are defined for a tensor: `exact` for bf16, int8 for paged layers, `state16` for fp32 states."""
    of_layer = shape.layers[layer]
    return _usable(of_layer.paged, of_layer.tensors[tensor].dtype, of_layer.tensors[tensor].name)


@cache
def _usable(paged: bool, dtype: DType, name: str) -> frozenset[Codec]:
    found = {Codec.RAW}
    if dtype == "bfloat16":
        found.add(Codec.EXACT)
    if paged:
        found |= {Codec.INT8_CHANNEL, Codec.INT8_TOKEN}
    elif dtype == "float32" and name == "state":
        found.add(Codec.STATE16)
    return frozenset(found)
