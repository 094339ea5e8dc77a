"""Every weight that a `DecoderSpec` needs, by canonical name: its shape, its precision, and how ranks share it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from prfaas.core.decoder_spec import DecoderSpec, Dense, Experts, Gdn, Gqa, Kda, Lightning, Mixer, Mla, Mlp


@dataclass(frozen=True, slots=True)
class Split:
    """A dimension made of equal `units` (heads, experts, …) that tensor-parallel ranks share out."""

    axis: int
    units: int


@dataclass(frozen=True, slots=True)
class Part:
    """One weight of the model, whole. Loaded as `stored * scale + offset`."""

    name: str
    shape: tuple[int, ...]
    split: Split | None = None
    """None: every rank holds all of it."""
    keep_fp32: bool = False
    """Small, and sensitive: never rounded to the model's dtype."""
    scale: float = 1.0
    offset: float = 0.0


def parts(spec: DecoderSpec) -> Iterator[Part]:
    """All weights of a model, the ends first and then layer by layer."""
    table = (spec.vocab_size, spec.hidden_size)
    yield Part("embedding", table, Split(0, spec.vocab_size))
    yield _norm("final_norm", spec.hidden_size, spec.norm_offset)
    if not spec.tie_embeddings:
        yield Part("head", table, Split(0, spec.vocab_size))
    for i, layer in enumerate(spec.layers):
        at = f"layers.{i}"
        yield _norm(f"{at}.mixer_norm", spec.hidden_size, spec.norm_offset)
        yield from _under(f"{at}.mixer", mixer_parts(layer.mixer, spec.hidden_size, spec.norm_offset))
        yield _norm(f"{at}.mlp_norm", spec.hidden_size, spec.norm_offset)
        yield from _under(f"{at}.mlp", mlp_parts(layer.mlp, spec.hidden_size))


def mixer_parts(mixer: Mixer, hidden: int, norm_offset: float) -> Iterator[Part]:
    """The weights of one mixer, by their names within it."""
    match mixer:
        case Gqa():
            return _gqa(mixer, hidden, norm_offset)
        case Mla():
            return _mla(mixer, hidden, norm_offset)
        case Kda():
            return _kda(mixer, hidden)
        case Gdn():
            return _gdn(mixer, hidden)
        case Lightning():
            return _lightning(mixer, hidden)
        case _:
            assert_never(mixer)


def mlp_parts(mlp: Mlp, hidden: int) -> Iterator[Part]:
    """The weights of one MLP, by their names within it."""
    match mlp:
        case Dense(inner=inner):
            return _swiglu("", inner, hidden)
        case Experts():
            return _experts(mlp, hidden)
        case _:
            assert_never(mlp)


def _under(prefix: str, found: Iterator[Part]) -> Iterator[Part]:
    return (replace(part, name=f"{prefix}.{part.name}") for part in found)


def _norm(name: str, size: int, offset: float = 0.0, split: Split | None = None) -> Part:
    return Part(name, (size,), split, keep_fp32=True, offset=offset)


def _gqa(gqa: Gqa, hidden: int, norm_offset: float) -> Iterator[Part]:
    heads, kv_heads = Split(0, gqa.num_heads), Split(0, gqa.num_kv_heads)
    q_width, k_width = gqa.num_heads * gqa.k_dim, gqa.num_kv_heads * gqa.k_dim
    out_width = gqa.num_heads * gqa.v_dim
    yield Part("q", (q_width, hidden), heads)
    if gqa.gated:
        yield Part("gate", (out_width, hidden), heads)
    yield Part("k", (k_width, hidden), kv_heads)
    yield Part("v", (gqa.num_kv_heads * gqa.v_dim, hidden), kv_heads, scale=gqa.value_scale)
    yield Part("o", (hidden, out_width), Split(1, gqa.num_heads))
    if gqa.norm == "head":
        yield _norm("q_norm", gqa.k_dim, norm_offset)
        yield _norm("k_norm", gqa.k_dim, norm_offset)
    elif gqa.norm == "all":
        yield _norm("q_norm", q_width, norm_offset, heads)
        yield _norm("k_norm", k_width, norm_offset, kv_heads)
    if gqa.sinks:
        yield Part("sinks", (gqa.num_heads,), heads, keep_fp32=True)


def _mla(mla: Mla, hidden: int, norm_offset: float) -> Iterator[Part]:
    heads = Split(0, mla.num_heads)
    q_width = mla.num_heads * (mla.nope_dim + mla.rope_dim)
    if mla.q_rank is None:
        yield Part("q", (q_width, hidden), heads)
    else:
        yield Part("q_down", (mla.q_rank, hidden))
        yield _norm("q_norm", mla.q_rank, norm_offset)
        yield Part("q_up", (q_width, mla.q_rank), heads)
    yield Part("latent", (mla.rank + mla.rope_dim, hidden))
    yield _norm("latent_norm", mla.rank, norm_offset)
    yield Part("kv_up", (mla.num_heads * (mla.nope_dim + mla.v_dim), mla.rank), heads)
    yield Part("o", (hidden, mla.num_heads * mla.v_dim), Split(1, mla.num_heads))


def _kda(kda: Kda, hidden: int) -> Iterator[Part]:
    heads, width = Split(0, kda.num_heads), kda.num_heads * kda.head_dim
    for name in "qkv":
        yield Part(name, (width, hidden), heads)
        yield Part(f"{name}_conv", (width, kda.conv_kernel), heads)
    for name in ("decay", "gate"):
        yield Part(f"{name}_down", (kda.head_dim, hidden))
        yield Part(f"{name}_up", (width, kda.head_dim), heads)
    yield Part("beta", (kda.num_heads, hidden), heads)
    yield Part("a_log", (kda.num_heads,), heads, keep_fp32=True)
    yield Part("dt_bias", (width,), heads, keep_fp32=True)
    yield _norm("out_norm", kda.head_dim)
    yield Part("o", (hidden, width), Split(1, kda.num_heads))


def _gdn(gdn: Gdn, hidden: int) -> Iterator[Part]:
    k_heads, v_heads = Split(0, gdn.num_k_heads), Split(0, gdn.num_v_heads)
    k_width, v_width = gdn.num_k_heads * gdn.k_dim, gdn.num_v_heads * gdn.v_dim
    for name, width, split in (("q", k_width, k_heads), ("k", k_width, k_heads), ("v", v_width, v_heads)):
        yield Part(name, (width, hidden), split)
        yield Part(f"{name}_conv", (width, gdn.conv_kernel), split)
    yield Part("gate", (v_width, hidden), v_heads)
    yield Part("beta", (gdn.num_v_heads, hidden), v_heads)
    yield Part("decay", (gdn.num_v_heads, hidden), v_heads)
    yield Part("a_log", (gdn.num_v_heads,), v_heads, keep_fp32=True)
    yield Part("dt_bias", (gdn.num_v_heads,), v_heads, keep_fp32=True)
    yield _norm("out_norm", gdn.v_dim)
    yield Part("o", (hidden, v_width), Split(1, gdn.num_v_heads))


def _lightning(lightning: Lightning, hidden: int) -> Iterator[Part]:
    heads, width = Split(0, lightning.num_heads), lightning.num_heads * lightning.head_dim
    for name in ("q", "k", "v", "gate"):
        yield Part(name, (width, hidden), heads)
    if lightning.qk_norm:
        yield _norm("q_norm", lightning.head_dim)
        yield _norm("k_norm", lightning.head_dim)
    yield _norm("out_norm", width, split=heads)
    yield Part("o", (hidden, width), Split(1, lightning.num_heads))


def _swiglu(prefix: str, inner: int, hidden: int) -> Iterator[Part]:
    yield Part(f"{prefix}gate", (inner, hidden), Split(0, inner))
    yield Part(f"{prefix}up", (inner, hidden), Split(0, inner))
    yield Part(f"{prefix}down", (hidden, inner), Split(1, inner))


def _experts(experts: Experts, hidden: int) -> Iterator[Part]:
    split = Split(0, experts.num_experts)
    yield Part("router", (experts.num_experts, hidden), keep_fp32=True)
    if experts.bias:
        yield Part("router_bias", (experts.num_experts,), keep_fp32=True)
    yield Part("gate_up", (experts.num_experts, 2 * experts.inner, hidden), split)
    yield Part("down", (experts.num_experts, hidden, experts.inner), split)
    if experts.shared_inner:
        yield from _swiglu("shared_", experts.shared_inner, hidden)
    if experts.shared_gate:
        yield Part("shared_score", (1, hidden))
