"""Joins attention over disjoint parts of the keys; knows nothing of how a part was computed."""

import torch
from torch import Tensor


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two sets of keys from attention over each (FlashAttention, arXiv 2205.14135, s3.1).

    Of each: outputs [..., Dv], normalised over its own keys, and the logarithms of the sums of exponentials
    [..., 1]. Returns the same for both sets together.
    """
    (mixed, total), (other_mixed, other_total) = one, other
    share = torch.sigmoid(other_total - total)
    return torch.lerp(mixed, other_mixed, share), torch.logaddexp(total, other_total)
