"""The definition of a prompt's attention: that of grouped-query attention, and a gate."""

from torch import Tensor

from prfaas_kernels.gqa.reference import gqa_reference_with_totals


def chunked_prefill_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
    window: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`gqa_reference_with_totals`, and `gate` [T, H, Dv], which goes through a sigmoid and multiplies the output."""
    out, totals = gqa_reference_with_totals(q, k, v, scale, sinks=sinks, window=window)
    return (out if gate is None else out / (1 + (-gate.float()).exp())), totals
