"""The last W tokens of a sequence in a ring: the token at position p lies at p mod W. Knows nothing of attention."""

import torch
from torch import Tensor


def ring_read(ring: Tensor, context: int) -> Tensor:
    """The last min(context, W) of `context` tokens in `ring` [W, ...], oldest first: [min(context, W), ...].

    A view while the ring is not yet full, or starts at its first entry; else a copy.
    """
    width = ring.shape[0]
    oldest = context % width
    if context <= width or oldest == 0:
        return ring[: min(context, width)]
    return torch.cat([ring[oldest:], ring[:oldest]])


def ring_write(ring: Tensor, new: Tensor, context: int) -> None:
    """Stores `new` [T, ...], the tokens at positions context, context + 1, …, in `ring` [W, ...].

    Of more than W tokens, the last W stay.
    """
    width = ring.shape[0]
    skipped = max(0, new.shape[0] - width)
    new, start = new[skipped:], (context + skipped) % width
    before_end = min(width - start, new.shape[0])
    ring[start : start + before_end] = new[:before_end]
    ring[: new.shape[0] - before_end] = new[before_end:]
