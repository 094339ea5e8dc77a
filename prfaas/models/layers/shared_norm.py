"""RMS norms over groups of channels that ranks may share between them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.ranks import Ranks
from prfaas_kernels.norm import rms_norm


@dataclass(frozen=True)
class SharedNorm:
    """An RMS norm over each of `groups` equal groups of all ranks' channels; this rank has N of them."""

    weight: Tensor
    """[N]"""
    groups: int
    eps: float
    ranks: Ranks

    def __call__(self, x: Tensor) -> Tensor:
        """[T, N] to [T, N] in the dtype of `x`."""
        if self.groups % self.ranks.size == 0:
            return self._whole_groups(x, self.groups // self.ranks.size)
        assert self.groups == 1
        squares = self.ranks.sum(x.float().square().sum(-1, keepdim=True))  # [T, 1]
        scale = torch.rsqrt(squares / (x.shape[1] * self.ranks.size) + self.eps)
        return (x.float() * scale * self.weight).to(x.dtype)

    def _whole_groups(self, x: Tensor, groups: int) -> Tensor:
        if groups == 1:
            return rms_norm(x, self.weight, self.eps)
        apart = torch.unflatten(x.float(), -1, (groups, -1))
        unit = torch.ones_like(self.weight[: apart.shape[-1]])
        return (rms_norm(apart, unit, self.eps).flatten(1) * self.weight).to(x.dtype)
