"""The MLPs that all Qwen generations configure alike: dense, or routed experts in every so many layers."""

from prfaas.core.decoder_spec import Dense, Experts, Mlp
from prfaas.core.families.fields import Raw, checked, first


def qwen_mlp(raw: Raw, layer: int, *, renormalize: bool) -> Mlp:
    """The MLP of a layer, without a shared expert. `renormalize` is what holds where the config is silent."""
    sparse = bool(raw.get("num_experts") or raw.get("num_local_experts")) and layer not in (
        raw.get("mlp_only_layers") or ()
    )
    if not sparse or (layer + 1) % int(raw.get("decoder_sparse_step", 1)):
        return Dense(int(first(raw, "intermediate_size")))
    return checked(
        Experts(
            num_experts=int(first(raw, "num_experts", "num_local_experts")),
            per_token=int(first(raw, "num_experts_per_tok")),
            inner=int(first(raw, "moe_intermediate_size")),
            score="softmax",
            renormalize=bool(raw.get("norm_topk_prob", renormalize)),
        )
    )
