"""What a prefill multiplies and what a decode step reads, from a model's layers. Knows no hardware.

Two operations per weight and token, as usual, and beyond them what a layer does with the tokens before.
"""

from dataclasses import dataclass
from typing import assert_never

from prfaas.core.decoder_spec import DecoderSpec, Gdn, Gqa, Kda, Lightning, Mixer, Mla
from prfaas.core.shape import DType, LayerCache, shape_of
from prfaas.planner.weights import Weights, weights_of

CHUNK_TOKENS = 64
"""Linear attention is computed chunk by chunk: dense within one, through the state between them."""


@dataclass(frozen=True, slots=True)
class Quadratic:
    """`once + per_token·l + per_token2·l²`."""

    once: float = 0.0
    per_token: float = 0.0
    per_token2: float = 0.0

    def of(self, tokens: float) -> float:
        return self.once + tokens * (self.per_token + tokens * self.per_token2)

    def __add__(self, other: "Quadratic") -> "Quadratic":
        return Quadratic(self.once + other.once, self.per_token + other.per_token, self.per_token2 + other.per_token2)


def prefill_flop(spec: DecoderSpec) -> Quadratic:
    """Operations of a prompt of l tokens: exact for those that no window is longer than, too much for shorter ones."""
    weights = weights_of(spec)
    layers = sum((mixing_flop(layer.mixer) for layer in spec.layers), Quadratic())
    return Quadratic(once=2 * weights.head, per_token=2 * weights.per_token) + layers


def mixing_flop(mixer: Mixer) -> Quadratic:
    """What one layer does beyond its products with weights, over a whole prompt.

    Attention: scores and sums, each token with itself and those before. Linear attention: of a chunk C long, scores and
    sums within it, then the state read, corrected and written (KDA, arXiv 2510.26692, s3; DeltaNet, arXiv 2406.06484,
    s3.2); lightning has no correction (arXiv 2501.08313, s2.2).
    """
    match mixer:
        case Gqa(num_heads=heads, k_dim=k, v_dim=v, window=window):
            return _attention(2 * heads * (k + v), window)
        case Mla(num_heads=heads, nope_dim=nope, rope_dim=rope, v_dim=v):
            return _attention(2 * heads * (nope + rope + v), None)
        case Kda(num_heads=heads, head_dim=size):
            return Quadratic(per_token=heads * _delta_rule(size, size))
        case Gdn(num_v_heads=heads, k_dim=k, v_dim=v):
            return Quadratic(per_token=heads * _delta_rule(k, v))
        case Lightning(num_heads=heads, head_dim=size):
            return Quadratic(per_token=heads * (4 * size * size + 2 * CHUNK_TOKENS * 2 * size))
        case _:
            assert_never(mixer)


def _attention(per_pair: int, window: int | None) -> Quadratic:
    """`per_pair`: operations of one query with one key and value, all heads together."""
    if window is None:
        return Quadratic(per_token=per_pair / 2, per_token2=per_pair / 2)
    return Quadratic(once=-per_pair * window * (window - 1) / 2, per_token=per_pair * window)


def _delta_rule(k: int, v: int) -> int:
    """Of one head and token: three products with the state, and within the chunk queries with keys, keys with keys,
    the triangular solve for keys and values, and the sums."""
    return 6 * k * v + 2 * CHUNK_TOKENS * (3 * k + 2 * v)


@dataclass(frozen=True, slots=True)
class DecodeWork:
    """What one decode step moves and multiplies, for all GPUs of an instance together."""

    weights: Weights
    weight_bytes: int
    """Of one parameter."""
    kv_bytes_per_token: int
    """Read for each token that a request looks back at."""
    state_bytes: int
    """Of one request: linear states are read and written, windows are read."""
    flop_per_context_token: int
    """Attention over the cache as it lies there: MLA multiplies with the latent itself."""

    def read_bytes(self, batch: float) -> float:
        """At no context."""
        return self.weights.touched(batch) * self.weight_bytes + batch * self.state_bytes

    def flop(self, batch: float) -> float:
        """At no context."""
        return 2 * batch * (self.weights.per_token + self.weights.head)


def decode_work(spec: DecoderSpec, dtype: DType, weight_bytes: int) -> DecodeWork:
    """With KV in `dtype`."""
    shape = shape_of(spec, dtype)
    return DecodeWork(
        weights_of(spec),
        weight_bytes,
        shape.kv_bytes_per_token,
        sum(_state_traffic(layer) for layer in shape.layers if not layer.paged),
        sum(_looking_back(layer.mixer) for layer in spec.layers),
    )


def _state_traffic(layer: LayerCache) -> int:
    return layer.num_bytes if layer.kind == "window" else 2 * layer.num_bytes


def _looking_back(mixer: Mixer) -> int:
    """Operations of one query with one cached token."""
    match mixer:
        case Mla(num_heads=heads, rank=rank, rope_dim=rope):
            return 2 * heads * (2 * rank + rope)
        case Gqa(num_heads=heads, k_dim=k, v_dim=v, window=None):
            return 2 * heads * (k + v)
        case _:
            return 0
