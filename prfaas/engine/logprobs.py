"""Reports how likely drawn tokens were under the model itself, whatever rules they were drawn by."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prfaas.core.logprobs import TokenLogprobs


class Asked(NamedTuple):
    """One token to report: the row of logits that it was drawn from, and how many of the likeliest beside it."""

    row: int
    token_id: int
    num_top: int


def report(logits: Tensor, asked: Sequence[Asked]) -> list[TokenLogprobs]:
    """`logits` [S, V] fp32 as the model made them; one report for each of `asked`."""
    logprobs = logits[[a.row for a in asked]].log_softmax(dim=-1)  # [A, V]
    drawn = logprobs.gather(-1, torch.tensor([[a.token_id] for a in asked], device=logits.device)).squeeze(-1).tolist()
    widest = min(max(a.num_top for a in asked), logits.shape[-1])
    values, ids = (top.tolist() for top in logprobs.topk(widest, dim=-1))
    return [
        TokenLogprobs(logprob, tuple(zip(ids[i][: a.num_top], values[i][: a.num_top], strict=True)))
        for i, (a, logprob) in enumerate(zip(asked, drawn, strict=True))
    ]
