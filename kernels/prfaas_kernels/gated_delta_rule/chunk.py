"""What happens inside chunks, for all chunks of all heads at once; knows nothing of the states between them."""

import torch
from torch import Tensor

from prfaas_kernels.delta_rule import ChunkProducts


def chunk_products(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> ChunkProducts:
    """`q`, `k` [N, Hk, C, K], `v` [N, Hv, C, V], `log_decay`, `beta` [N, Hv, C, 1], all fp32, C a power of two."""
    shared = v.shape[1] // k.shape[1]
    pairwise, prefix, suffix = _decays(log_decay[..., 0])
    similarity = (k @ k.mT).repeat_interleave(shared, dim=1)  # [N, Hv, C, C]
    scores = (q @ k.mT).repeat_interleave(shared, dim=1).mul_(pairwise)
    inverse = _invert(similarity.mul_(pairwise).mul_(beta))
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    size = k.shape[-1]
    solved = inverse @ torch.cat([k * (beta * prefix), v * beta], dim=-1)  # [N, Hv, C, K+V]: W | U
    read = scores @ solved
    write = (k * suffix).mT @ solved  # [N, Hv, K, K+V]
    transition = write[..., :size].neg()
    transition.diagonal(dim1=-2, dim2=-1).add_(prefix[..., -1, :])
    return ChunkProducts(
        read=torch.addcmul(-read[..., :size], q, prefix),
        within=read[..., size:],
        transition=transition,
        update=write[..., size:],
    )


def _decays(log_decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From [N, H, C]: decays between each two tokens [N, H, C, C] (lower triangle with diagonal), from the chunk's

    start to after each token, and from there to its end, both [N, H, C, 1]. Sums are in double precision: a weak
    decay next to a strong one must survive the subtraction.
    """
    total = log_decay.double().cumsum(-1)
    between = (total[..., :, None] - total[..., None, :]).float().exp_().tril_()
    return between, total.exp().float()[..., None], (total[..., -1:] - total).exp().float()[..., None]


def _invert(lower: Tensor) -> Tensor:
    """Inverse of `I + ` the strictly lower triangle of `lower` [N, H, C, C], by joining blocks twice as long."""
    chunk = lower.shape[-1]
    inverse = torch.diag_embed(torch.ones_like(lower[..., 0]))
    half = 1
    while half < chunk:
        late, early = slice(half, None), slice(None, half)
        cross = _blocks(lower, 2 * half)[..., late, early]
        inv = _blocks(inverse, 2 * half)
        inv[..., late, early] = -(inv[..., late, late] @ cross @ inv[..., early, early])
        half *= 2
    return inverse


def _blocks(matrix: Tensor, size: int) -> Tensor:
    """The diagonal blocks of [N, H, C, C], as a view [N, H, C/size, size, size]."""
    tiled = torch.unflatten(torch.unflatten(matrix, -1, (-1, size)), -3, (-1, size))
    return tiled.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
