"""A `DecoderSpec` and its weights put together into a decoder: one function per kind of part, for every family."""

from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import torch
from torch import Tensor

from prfaas.core import decoder_spec as spec
from prfaas.models.decoder import DecoderLayer, HybridDecoder, Mixer
from prfaas.models.decoder import Mlp as MlpLayer
from prfaas.models.layers.gdn import GdnLayer
from prfaas.models.layers.gqa import GqaLayer
from prfaas.models.layers.kda import KdaLayer
from prfaas.models.layers.lightning import LightningLayer
from prfaas.models.layers.mla import LowRankQueries, MlaLayer
from prfaas.models.layers.mlp import Mlp
from prfaas.models.layers.moe import Moe
from prfaas.models.layers.shared_norm import SharedNorm
from prfaas.models.layers.vocabulary import Embedding, Head
from prfaas.models.parts import Part
from prfaas.models.ranks import Ranks
from prfaas.models.shard import conv_ranges, local_mixer, slice_part, unit_range
from prfaas_kernels import native
from prfaas_kernels.dispatch import uses_triton
from prfaas_kernels.linear import Weight, pack_linear
from prfaas_kernels.moe import Experts, Routing
from prfaas_kernels.rotary import rotary_inverse_frequencies


class PartSource(Protocol):
    """Where a decoder's weights come from; see `prfaas.models.weights`."""

    def part(self, name: str) -> Part | None:
        """What a name stands for; None if the model has none of it."""
        ...

    def __getitem__(self, name: str) -> Tensor:
        """The part, whole."""
        ...


@dataclass(frozen=True)
class Reader:
    """Reads this rank's slices of the parts below a name."""

    weights: PartSource
    ranks: Ranks
    eps: float
    device: torch.device
    at: str = ""

    def under(self, name: str) -> "Reader":
        return replace(self, at=f"{self.at}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        full = self.at + name
        part = self.weights.part(full)
        assert part is not None, full
        return slice_part(self.weights[full], part.split, self.ranks).to(self.device)

    def maybe(self, name: str) -> Tensor | None:
        return None if self.weights.part(self.at + name) is None else self[name]

    def fused(self, *names: str) -> Tensor:
        """Parts that share their input as one, stacked along the output dimension."""
        return torch.cat([self[name] for name in names])

    def projection(self, *names: str) -> Weight:
        """`fused` parts in the form in which they are fastest to multiply with."""
        return pack_linear(self.fused(*names))


def build_decoder(model: spec.DecoderSpec, weights: PartSource, ranks: Ranks, device: torch.device) -> HybridDecoder:
    """Reads all weights to `device`, fusing projections that share their input.

    Raises UnsupportedModelError for odd splits.
    """
    read = Reader(weights, ranks, model.norm_eps, device)
    table = read["embedding"]
    first, _ = unit_range(model.vocab_size, ranks)
    return HybridDecoder(
        embedding=Embedding(table, first, ranks),
        layers=tuple(_layer(read.under(f"layers.{i}"), layer) for i, layer in enumerate(model.layers)),
        final_norm=read["final_norm"],
        head=Head(pack_linear(table if model.tie_embeddings else read["head"]), ranks),
        eps=model.norm_eps,
        frequencies={
            rotary: rotary_inverse_frequencies(rotary.dims, rotary.theta).to(device) for rotary in model.rotaries
        },
        ranks=ranks,
    )


def _layer(read: Reader, layer: spec.LayerSpec) -> DecoderLayer:
    return DecoderLayer(
        mixer_norm=read["mixer_norm"],
        mixer=_mixer(read.under("mixer"), layer.mixer),
        mixer_residual=layer.mixer_residual,
        mlp_norm=read["mlp_norm"],
        mlp=_mlp(read.under("mlp"), layer.mlp),
        mlp_residual=layer.mlp_residual,
    )


def _mixer(read: Reader, mixer: spec.Mixer) -> Mixer:
    match mixer:
        case spec.Gqa():
            return _gqa(read, mixer)
        case spec.Mla():
            return _mla(read, mixer)
        case spec.Kda():
            return _kda(read, mixer)
        case spec.Gdn():
            return _gdn(read, mixer)
        case spec.Lightning():
            return _lightning(read, mixer)
        case _:
            assert_never(mixer)


def _mlp(read: Reader, mlp: spec.Mlp) -> MlpLayer:
    match mlp:
        case spec.Dense():
            return _swiglu(read)
        case spec.Experts():
            return _experts(read, mlp)
        case _:
            assert_never(mlp)


def _gqa(read: Reader, mixer: spec.Gqa) -> GqaLayer:
    def norm(name: str) -> Tensor | SharedNorm | None:
        weight = read.maybe(name)
        if weight is None or mixer.norm != "all":
            return weight
        return SharedNorm(weight, 1, read.eps, read.ranks)

    return GqaLayer(
        spec=local_mixer(mixer, read.ranks),
        project_in=read.projection("q", "k", "v", *(["gate"] if mixer.gated else [])),
        q_norm=norm("q_norm"),
        k_norm=norm("k_norm"),
        sinks=read.maybe("sinks"),
        project_out=read.projection("o"),
        eps=read.eps,
    )


def _mla(read: Reader, mixer: spec.Mla) -> MlaLayer:
    low_rank = None if mixer.q_rank is None else LowRankQueries(read["q_norm"], read.projection("q_up"))
    local = local_mixer(mixer, read.ranks)
    return MlaLayer(
        spec=local,
        project_in=read.projection("q" if low_rank is None else "q_down", "latent"),
        low_rank=low_rank,
        latent_norm=read["latent_norm"],
        kv_up=torch.unflatten(read["kv_up"], 0, (local.num_heads, -1)),
        project_out=read.projection("o"),
    )


def _kda(read: Reader, mixer: spec.Kda) -> KdaLayer:
    local_mixer(mixer, read.ranks)
    return KdaLayer(
        project_in=read.projection("q", "k", "v", "decay_down", "gate_down", "beta"),
        conv=read.fused("q_conv", "k_conv", "v_conv").T.contiguous(),
        conv_starts=_conv_starts(read, mixer),
        decay_up=read.projection("decay_up"),
        gate_up=read.projection("gate_up"),
        a_log=read["a_log"],
        dt_bias=read["dt_bias"],
        out_norm=read["out_norm"],
        project_out=read.projection("o"),
        eps=read.eps,
    )


def _gdn(read: Reader, mixer: spec.Gdn) -> GdnLayer:
    return GdnLayer(
        spec=local_mixer(mixer, read.ranks),
        project_in=read.projection("q", "k", "v", "gate", "beta", "decay"),
        conv=read.fused("q_conv", "k_conv", "v_conv").T.contiguous(),
        conv_starts=_conv_starts(read, mixer),
        a_log=read["a_log"],
        dt_bias=read["dt_bias"],
        out_norm=read["out_norm"],
        project_out=read.projection("o"),
        eps=read.eps,
    )


def _conv_starts(read: Reader, mixer: spec.Kda | spec.Gdn) -> tuple[int, int, int]:
    (q, _), (k, _), (v, _) = conv_ranges(mixer, read.ranks)
    return q, k, v


def _lightning(read: Reader, mixer: spec.Lightning) -> LightningLayer:
    local = local_mixer(mixer, read.ranks)
    return LightningLayer(
        spec=local,
        log_decay=torch.tensor(local.log_decay, dtype=torch.float32, device=read.device),
        project_in=read.projection("q", "k", "v", "gate"),
        q_norm=read.maybe("q_norm"),
        k_norm=read.maybe("k_norm"),
        out_norm=SharedNorm(read["out_norm"], mixer.norm_groups, mixer.norm_eps, read.ranks),
        project_out=read.projection("o"),
        eps=read.eps,
    )


def _swiglu(read: Reader, prefix: str = "") -> Mlp:
    return Mlp(read.projection(f"{prefix}gate", f"{prefix}up"), read.projection(f"{prefix}down"))


def _experts(read: Reader, mlp: spec.Experts) -> Moe:
    first, _ = unit_range(mlp.num_experts, read.ranks)
    return Moe(
        router=read["router"],
        router_bias=read.maybe("router_bias"),
        gate_up=_expert_weights(read["gate_up"]),
        down=_expert_weights(read["down"]),
        first=first,
        shared=_swiglu(read, "shared_") if mlp.shared_inner else None,
        shared_score=read.maybe("shared_score"),
        routing=Routing(
            top_k=mlp.per_token,
            num_groups=mlp.num_groups,
            groups_per_token=mlp.groups_per_token,
            renormalize=mlp.renormalize,
            scaling=mlp.scaling,
            score=mlp.score,
        ),
    )


def _expert_weights(stack: Tensor) -> Experts:
    """[E, O, I] as it is for kernels, which read the hit experts at a memory's pace; else packed each, for torch."""
    return stack if uses_triton(stack) or native.active() else tuple(pack_linear(expert) for expert in stack)
