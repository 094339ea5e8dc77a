"""The definition of putting attention over disjoint keys together, in fp64."""

import torch
from torch import Tensor


def merge_partials_reference(
    out: Tensor, peak: Tensor, total: Tensor, *, sinks: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """The softmax over all keys of N disjoint parts (Infinite-LLM, arXiv 2401.02669, Eq. 2 and 3).

    `out` [N, B, H, Dv], `peak` and `total` [N, B, H] as in `Partial`; `sinks` [H] are logits that carry no value;
    `gate` [B, H, Dv] multiplies by its sigmoid. Returns [B, H, Dv] in fp64; zeros where there are no keys at all.
    """
    out, peak, total = out.double(), peak.double(), total.double()
    highest = peak.amax(0)  # [B, H]
    if sinks is not None:
        highest = torch.maximum(highest, sinks.double())
    highest = highest.where(highest > -torch.inf, 0)
    weights = torch.exp(peak - highest)  # [N, B, H]
    denominator = (weights * total).sum(0)
    if sinks is not None:
        denominator = denominator + torch.exp(sinks.double() - highest)
    mixed = (weights[..., None] * out).sum(0) / denominator.where(denominator > 0, 1)[..., None]
    return mixed if gate is None else mixed * gate.double().sigmoid()
