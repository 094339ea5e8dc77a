"""Parts joined by torch's ops, all at once."""

import torch
from torch import Tensor


def merge_partials(
    out: Tensor,
    peak: Tensor,
    total: Tensor,
    *,
    sinks: Tensor | None = None,
    gate: Tensor | None = None,
    dtype: torch.dtype,
) -> Tensor:
    """Joins N attentions over disjoint keys, exactly: the fields of their `Partial`s, stacked.

    `out` [N, B, H, Dv], `peak` and `total` [N, B, H], fp32. `sinks` [H] are logits that join the softmax and carry no
    value; `gate` [B, H, Dv], opened by a sigmoid, multiplies the result. Returns [B, H, Dv] in `dtype`; zeros where
    there are no keys at all.
    """
    highest = peak.amax(0)  # [B, H]
    if sinks is not None:
        highest = torch.maximum(highest, sinks.float())
    reference = highest.clamp(min=torch.finfo(torch.float32).min)  # of no keys: anything finite
    weights = (peak - reference).exp()  # [N, B, H]
    joined = (weights * total).sum(0)
    if sinks is not None:
        joined += (sinks.float() - reference).exp()
    mixed = (weights[..., None] * out).sum(0) / joined.masked_fill(joined == 0, 1)[..., None]
    return (mixed if gate is None else mixed * gate.float().sigmoid()).to(dtype)
