"""The two ends of a decoder: tokens to vectors and vectors to logits, each rank with a slice of the vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.ranks import Ranks
from prfaas_kernels.linear import Weight, linear


@dataclass(frozen=True)
class Embedding:
    """Rows [first, first + N) of the vocabulary's table."""

    table: Tensor
    """[N, hidden]"""
    first: int
    ranks: Ranks

    def __call__(self, token_ids: Tensor) -> Tensor:
        """[T] ids of the whole vocabulary to [T, hidden]."""
        if self.ranks.size == 1:
            return self.table[token_ids]
        local = token_ids - self.first
        elsewhere = (local < 0) | (local >= self.table.shape[0])
        rows = self.table[local.masked_fill(elsewhere, 0)].masked_fill_(elsewhere[:, None], 0)
        return self.ranks.sum(rows)


@dataclass(frozen=True)
class Head:
    """A slice of the output projection."""

    weight: Weight
    """[N, hidden]"""
    ranks: Ranks

    def __call__(self, x: Tensor) -> Tensor:
        """[S, hidden] to logits [S, vocab] in fp32, the same on every rank."""
        return self.ranks.join(linear(x, self.weight).to(torch.float32))
