"""Draws tokens from logits.

Every draw depends only on the request's seed, the position, the logits and the tokens so far, so a request that moves
between instances, or is computed again, continues with the same tokens; it knows no requests and no neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.request import SamplingParams
from prfaas.engine.token_counts import TokenCounts
from prfaas.engine.truncation import draw_at, draw_truncated

COLD = 1e-5
"""Below this temperature the best token wins anyway, and dividing by it could overflow."""
_WORD = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Draw:
    """One row of logits: how to draw, and for which position of the request (0 is the first output token)."""

    sampling: SamplingParams
    position: int
    counts: TokenCounts | None = None
    """Of prompt and output, for requests with penalties."""
    banned: tuple[int, ...] = ()
    """Ids that must not be drawn now."""
    allowed: Tensor | None = None
    """[V] bool: what a grammar lets come next; at least one entry is true."""

    @property
    def greedy(self) -> bool:
        return self.sampling.temperature < COLD

    @property
    def adjusts(self) -> bool:
        """The logits are not taken as they are."""
        return bool(self.counts or self.banned or self.sampling.logit_bias) or self.allowed is not None


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """`logits` [S, V] fp32 → S token ids; None where a row is not finite, which nothing sensible can be drawn from.

    The logits stay as they are. Ids in `banned` and in a bias must be below V.
    """
    best = logits.argmax(dim=-1).tolist()
    # NaN passes through both, so together they see every value that is not finite, without a mask of V columns.
    finite = (logits.amax(dim=-1).isfinite() & logits.amin(dim=-1).isfinite()).tolist()
    tokens = [token if ok else None for token, ok in zip(best, finite, strict=True)]
    rows = [i for i, draw in enumerate(draws) if finite[i] and (draw.adjusts or not draw.greedy)]
    if rows:
        chosen = [draws[i] for i in rows]
        for i, token in zip(rows, _sample_rows(logits[rows], chosen), strict=True):
            tokens[i] = token
    return tokens


def _sample_rows(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Consumes `logits` [S, V]."""
    for row, draw in zip(logits, draws, strict=True):
        if draw.adjusts:
            _adjust(row, draw)
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    hot = [i for i, draw in enumerate(draws) if not draw.greedy]
    whole = [i for i in hot if not _truncates(draws[i].sampling)]
    cut = [i for i in hot if _truncates(draws[i].sampling)]
    for rows, drawn in ((whole, _draw_whole), (cut, _draw_cut)):
        if rows:
            chosen = [draws[i] for i in rows]
            for i, token in zip(rows, drawn(_scaled(logits[rows], chosen), chosen), strict=True):
                tokens[i] = token
    return tokens


def _adjust(row: Tensor, draw: Draw) -> None:
    """Bias, penalties and masks, in this order, in place on `row` [V]."""
    if bias := draw.sampling.logit_bias:
        ids = torch.tensor([token_id for token_id, _ in bias], device=row.device)
        row[ids] += torch.tensor([value for _, value in bias], dtype=row.dtype, device=row.device)
    if draw.counts:
        _penalise(row, draw.counts, draw.sampling)
    if draw.banned:
        row[list(draw.banned)] = -torch.inf
    if draw.allowed is not None:
        row.masked_fill_(~draw.allowed, -torch.inf)


def _penalise(row: Tensor, counts: TokenCounts, sampling: SamplingParams) -> None:
    """Repetition as in CTRL (arXiv 1909.05858, section 4.1), frequency and presence as OpenAI defines them."""
    if (penalty := sampling.repetition_penalty) != 1.0:
        seen = row[counts.seen_ids]
        row[counts.seen_ids] = torch.where(seen > 0, seen / penalty, seen * penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        ids, times = counts.output_ids, counts.output_times
        row[ids] -= sampling.frequency_penalty * times + sampling.presence_penalty


def _scaled(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """[S, V] over temperature, shifted so that the best is 0: no temperature makes it overflow."""
    temperatures = logits.new_tensor([draw.sampling.temperature for draw in draws])  # [S]
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperatures.unsqueeze(-1)


def _truncates(sampling: SamplingParams) -> bool:
    return sampling.top_k > 0 or sampling.top_p < 1.0 or sampling.min_p > 0.0


def _draw_whole(scaled: Tensor, draws: Sequence[Draw]) -> list[int]:
    drawn: list[int] = draw_at(scaled.softmax(dim=-1), _uniforms(draws)).tolist()
    return drawn


def _draw_cut(scaled: Tensor, draws: Sequence[Draw]) -> list[int]:
    width = scaled.shape[-1]
    sampling = [draw.sampling for draw in draws]
    top_k = [s.top_k if 0 < s.top_k < width else width for s in sampling]
    limits = torch.tensor(
        list(zip(top_k, [s.top_p for s in sampling], [s.min_p for s in sampling], strict=True)), dtype=torch.float64
    )
    drawn: list[int] = draw_truncated(scaled.softmax(dim=-1), limits.to(scaled.device), _uniforms(draws)).tolist()
    return drawn


def _uniforms(draws: Sequence[Draw]) -> list[float]:
    return [uniform(draw.sampling.seed, draw.position) for draw in draws]


def uniform(seed: int, position: int) -> float:
    """In [0, 1), by SplitMix64 over seed and position: neighbouring seeds and positions are unrelated."""
    return (_mix(_mix(seed) + position) >> 11) / 2**53


def _mix(word: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)
