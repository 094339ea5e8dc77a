"""What a model caches, in bytes: one list of tensors per layer, the same on every instance and on the wire.

Knows the sizes of things, not the things: no torch here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from prfaas.core.errors import UnsupportedModelError
from prfaas.core.model_config import KimiLinearConfig, kimi_linear

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


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one layer keeps. Paged: grows by one entry per token. Otherwise: a state of fixed size per request."""

    kind: Literal["mla", "kda"]
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
        whole = self.tensors[tensor].num_bytes
        return whole if self.paged else whole // self.tensors[tensor].dims[0]


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


def _kimi_linear_layers(config: KimiLinearConfig, dtype: DType) -> tuple[LayerCache, ...]:
    latent = CacheTensor("latent", (config.kv_lora_rank + config.qk_rope_head_dim,), dtype)
    head = config.linear_head_dim
    state = CacheTensor("state", (config.linear_num_heads, head, head), "float32")
    conv = CacheTensor("conv", (config.conv_kernel - 1, 3 * config.linear_num_heads * head), dtype)
    mla = LayerCache("mla", paged=True, tensors=(latent,))
    kda = LayerCache("kda", paged=False, tensors=(state, conv))
    return tuple(mla if full else kda for full in config.full_attention)


def _kimi_linear_shape(raw: Mapping[str, Any], dtype: DType) -> ModelShape:
    config = kimi_linear(raw)
    return ModelShape("kimi_linear", _kimi_linear_layers(config, dtype), config.max_context_tokens)


FAMILIES: dict[str, Callable[[Mapping[str, Any], DType], ModelShape]] = {"kimi_linear": _kimi_linear_shape}


def model_shape(raw: Mapping[str, Any], dtype: DType) -> ModelShape:
    """The shape of the model that `config.json` (`raw`) describes, cached in `dtype`. Raises UnsupportedModelError."""
    model_type = str(raw.get("model_type"))
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"model_type {model_type!r} is not implemented; known: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type](raw, dtype)
