"""What a decoder is made of, layer by layer, whatever its family calls the parts. Knows no tensors and no files."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding of the first `dims` entries of a head (RoFormer, arXiv 2104.09864, Eq. 34)."""

    dims: int
    theta: float
    interleaved: bool = False
    """Rotates neighbouring entries (2i, 2i+1) instead of (i, i + dims/2)."""


@dataclass(frozen=True, slots=True)
class Gqa:
    """Grouped-query attention over a paged cache, or with a `window` over a ring of the last tokens."""

    num_heads: int
    num_kv_heads: int
    k_dim: int
    v_dim: int
    rotary: Rotary | None
    norm: Literal["none", "head", "all"] = "none"
    """RMS norm of queries and keys: over each head, or over all heads together."""
    gated: bool = False
    """A sigmoid gate per query head and channel on the output."""
    window: int | None = None
    """A query sees itself and the `window - 1` tokens before it."""
    sinks: bool = False
    """One learned logit per head joins the softmax's denominator."""
    value_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Mla:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, s2.1): the cache is one latent per token."""

    num_heads: int
    rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    q_rank: int | None = None
    rotary: Rotary | None = None
    norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Kda:
    """Kimi Delta Attention (arXiv 2510.26692): the delta rule with one decay per channel."""

    num_heads: int
    head_dim: int
    conv_kernel: int


@dataclass(frozen=True, slots=True)
class Gdn:
    """Gated DeltaNet (arXiv 2412.06464): the delta rule with one decay per head."""

    num_k_heads: int
    num_v_heads: int
    k_dim: int
    v_dim: int
    conv_kernel: int


@dataclass(frozen=True, slots=True)
class Lightning:
    """Lightning attention (MiniMax-01, arXiv 2501.08313): linear attention with a fixed decay per head."""

    num_heads: int
    head_dim: int
    log_decay: tuple[float, ...]
    """One per head, per token, below 0."""
    scale: float
    """Of the queries."""
    norm_groups: int
    """The output's RMS norm is over each of so many groups of heads."""
    norm_eps: float
    rotary: Rotary | None = None
    qk_norm: bool = False
    silu: bool = False
    """SiLU on queries, keys and values."""


Mixer = Gqa | Mla | Kda | Gdn | Lightning


@dataclass(frozen=True, slots=True)
class Dense:
    """A SwiGLU."""

    inner: int


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed SwiGLUs, with an optional one that every token takes."""

    num_experts: int
    per_token: int
    inner: int
    score: Literal["sigmoid", "softmax"]
    bias: bool = False
    """A learned bias sways the choice of experts, not their weights."""
    num_groups: int = 1
    groups_per_token: int = 1
    renormalize: bool = True
    scaling: float = 1.0
    shared_inner: int = 0
    shared_gate: bool = False
    """A sigmoid gate per token on the shared expert."""


Mlp = Dense | Experts


@dataclass(frozen=True, slots=True)
class PostNorm:
    """`x = norm(x); x = keep * x + add * f(x)`, where the usual block is `x += f(norm(x))` (MiniMax-01)."""

    keep: float
    add: float


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One block of the decoder."""

    mixer: Mixer
    mlp: Mlp
    mixer_residual: PostNorm | None = None
    mlp_residual: PostNorm | None = None


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A whole model."""

    model_type: str
    vocab_size: int
    hidden_size: int
    max_context_tokens: int
    norm_eps: float
    tie_embeddings: bool
    eos_token_ids: tuple[int, ...]
    layers: tuple[LayerSpec, ...]
    norm_offset: float = 0.0
    """Added to the stored weights of all RMS norms but those of linear-attention outputs."""

    @property
    def rotaries(self) -> tuple[Rotary, ...]:
        """The distinct rotary embeddings of all layers."""
        found = {m.rotary for m in self._mixers if isinstance(m, Gqa | Mla | Lightning) and m.rotary is not None}
        return tuple(sorted(found, key=lambda rotary: (rotary.theta, rotary.dims)))

    @property
    def _mixers(self) -> tuple[Mixer, ...]:
        return tuple(layer.mixer for layer in self.layers)
