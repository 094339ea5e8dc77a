"""What a model caches, in bytes: one list of tensors per layer, the same on every instance and on the wire.

Knows the sizes of things, not the things: no torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal, assert_never

from prfaas.core.decoder_spec import DecoderSpec, Gdn, Gqa, Kda, Lightning, Mixer, Mla
from prfaas.core.families.registry import decoder_spec

DType = Literal["float32", "bfloat16"]
DTYPE_BYTES: dict[DType, int] = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class CacheTensor:
    """One cached tensor of one layer; `dims` are per token where the layer is paged, else per request."""

    name: str
    dims: tuple[int, ...]
    dtype: DType

    @property
    def num_bytes(self) -> int:
        return prod(self.dims) * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps. Paged: grows by one entry per token. Otherwise: a state of fixed size per request."""

    kind: Literal["mla", "gqa", "window", "kda", "gdn", "lightning"]
    paged: bool
    tensors: tuple[CacheTensor, ...]

    @property
    def num_bytes(self) -> int:
        """Per token if paged, per request otherwise."""
        return sum(t.num_bytes for t in self.tensors)

    def num_rows(self, tensor: int, tokens: int) -> int:
        """Rows that a request of `tokens` tokens has of a tensor: tokens if paged, else the first dimension."""
        return tokens if self.paged else self.tensors[tensor].dims[0]

    def row_bytes(self, tensor: int) -> int:
        """A row is the smallest part of a tensor that travels alone."""
        return self._row_bytes[tensor]

    @cached_property
    def _row_bytes(self) -> tuple[int, ...]:
        """By tensor; asked for at every object that crosses."""
        return tuple(t.num_bytes if self.paged else t.num_bytes // t.dims[0] for t in self.tensors)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The cache of a whole model: `S_kv(l)` of the PrfaaS paper (s2) in closed form."""

    model_type: str
    layers: tuple[LayerCache, ...]
    max_context_tokens: int

    @property
    def paged_layers(self) -> tuple[int, ...]:
        return tuple(i for i, layer in enumerate(self.layers) if layer.paged)

    @property
    def state_layers(self) -> tuple[int, ...]:
        return tuple(i for i, layer in enumerate(self.layers) if not layer.paged)

    @property
    def kv_bytes_per_token(self) -> int:
        return sum(layer.num_bytes for layer in self.layers if layer.paged)

    @property
    def state_bytes(self) -> int:
        """Fixed bytes per request, whatever its length."""
        return sum(layer.num_bytes for layer in self.layers if not layer.paged)

    @property
    def largest_row_bytes(self) -> int:
        """A frame on the wire must hold at least this."""
        return max(layer.row_bytes(i) for layer in self.layers for i in range(len(layer.tensors)))

    def cache_bytes(self, tokens: int) -> int:
        """`S_kv(l)`: the bytes that a prefill of `tokens` leaves and that a transfer of it must move."""
        return tokens * self.kv_bytes_per_token + self.state_bytes


def model_shape(raw: Mapping[str, Any], dtype: DType) -> ModelShape:
    """The shape of the model that `config.json` (`raw`) describes, cached in `dtype`. Raises ModelError."""
    return shape_of(decoder_spec(raw), dtype)


def sent_shapes(raw: Mapping[str, Any]) -> dict[DType, ModelShape]:
    """The model's shape in each dtype that a sender of its cache may serve it in. Raises ModelError."""
    spec = decoder_spec(raw)
    return {dtype: shape_of(spec, dtype) for dtype in DTYPE_BYTES}


def shape_of(spec: DecoderSpec, dtype: DType) -> ModelShape:
    """What a decoder caches. Linear states are fp32, whatever the model's dtype: rounding them adds up."""
    layers = tuple(_layer_cache(layer.mixer, dtype) for layer in spec.layers)
    return ModelShape(spec.model_type, layers, spec.max_context_tokens)


def _layer_cache(mixer: Mixer, dtype: DType) -> LayerCache:
    match mixer:
        case Mla(rank=rank, rope_dim=rope):
            return LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (rank + rope,), dtype),))
        case Gqa(window=window):
            if window is None:
                return LayerCache("gqa", paged=True, tensors=_keys_and_values(mixer, (), dtype))
            return LayerCache("window", paged=False, tensors=_keys_and_values(mixer, (window - 1,), dtype))
        case Kda(num_heads=heads, head_dim=size, conv_kernel=taps):
            conv = CacheTensor("conv", (taps - 1, 3 * heads * size), dtype)
            return LayerCache("kda", paged=False, tensors=(CacheTensor("state", (heads, size, size), "float32"), conv))
        case Gdn(num_k_heads=k_heads, num_v_heads=v_heads, k_dim=k, v_dim=v, conv_kernel=taps):
            conv = CacheTensor("conv", (taps - 1, 2 * k_heads * k + v_heads * v), dtype)
            return LayerCache("gdn", paged=False, tensors=(CacheTensor("state", (v_heads, k, v), "float32"), conv))
        case Lightning(num_heads=heads, head_dim=size):
            return LayerCache("lightning", paged=False, tensors=(CacheTensor("state", (heads, size, size), "float32"),))
        case _:
            assert_never(mixer)


def _keys_and_values(gqa: Gqa, before: tuple[int, ...], dtype: DType) -> tuple[CacheTensor, CacheTensor]:
    """`before` is the length of a ring, or nothing where pages count the tokens."""
    heads = gqa.num_kv_heads
    return CacheTensor("k", (*before, heads, gqa.k_dim), dtype), CacheTensor("v", (*before, heads, gqa.v_dim), dtype)
