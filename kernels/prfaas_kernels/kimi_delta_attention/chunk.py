"""What happens inside chunks, for all chunks of all heads at once; knows nothing of the states between them."""

import torch
from torch import Tensor

from prfaas_kernels.delta_rule import ChunkProducts


def chunk_products(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> ChunkProducts:
    """`q`, `k`, `log_decay` [N, H, C, K], `v` [N, H, C, V], `beta` [N, H, C, 1], all fp32, C a power of two."""
    keys = k * beta
    scores, inverse, prefix, suffix = _merge_halves(q, k, keys, log_decay)
    decay = prefix.exp()
    size = k.shape[-1]
    solved = inverse @ torch.cat([keys * decay, v * beta], dim=-1)  # [N, H, C, K+V]: W | U
    read = scores @ solved
    write = (k * suffix.exp()).mT @ solved  # [N, H, K, K+V]
    return ChunkProducts(
        read=q * decay - read[..., :size],
        within=read[..., size:],
        transition=torch.diag_embed(decay[..., -1, :]) - write[..., :size],
        update=write[..., size:],
    )


def _blocks(matrix: Tensor, size: int) -> Tensor:
    """The diagonal blocks of [N, H, C, C], as a view [N, H, C/size, size, size]."""
    tiled = torch.unflatten(torch.unflatten(matrix, -1, (-1, size)), -3, (-1, size))
    return tiled.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def _merge_halves(q: Tensor, k: Tensor, keys: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Builds the C x C matrices of every chunk by joining neighbouring blocks, each time twice as long.

    Returns scores (decayed q kᵀ, lower triangle with diagonal), the inverse of `I + strictly lower decayed keys kᵀ`,
    and the log decays from the chunk's start to after each token (prefix) and from there to its end (suffix).
    The point where two blocks meet is the reference of both exponents: each is a sum of log decays, hence <= 0, so
    nothing overflows, and no large sums are subtracted from each other.
    """
    chunk = q.shape[-2]
    prefix, suffix = log_decay.clone(), torch.zeros_like(log_decay)
    scores = torch.diag_embed((q * k).sum(-1))
    inverse = torch.diag_embed(torch.ones_like(q[..., 0]))
    rows = torch.cat([q, keys], dim=-1)  # one exponential serves both
    half = 1
    while half < chunk:
        _join(scores, inverse, rows, k, prefix, suffix, half)
        half *= 2
    return scores, inverse, prefix, suffix


def _join(scores: Tensor, inverse: Tensor, rows: Tensor, k: Tensor, prefix: Tensor, suffix: Tensor, half: int) -> None:
    early, late = slice(None, half), slice(half, None)
    pre, suf = (torch.unflatten(x, -2, (-1, 2 * half)) for x in (prefix, suffix))  # [N, H, C/2h, 2h, K] views
    row = torch.unflatten(rows, -2, (-1, 2 * half))[..., late, :]
    key = torch.unflatten(k, -2, (-1, 2 * half))[..., early, :] * suf[..., early, :].exp()  # [N, H, C/2h, h, K]
    row = torch.unflatten(row, -1, (2, -1)) * pre[..., late, None, :].exp()  # [N, H, C/2h, h, 2, K]
    cross = row.flatten(-3, -2) @ key.mT  # [N, H, C/2h, 2h, h]
    cross_q, cross_k = torch.unflatten(cross, -2, (half, 2)).unbind(-2)
    _blocks(scores, 2 * half)[..., late, early] = cross_q
    inv = _blocks(inverse, 2 * half)
    inv[..., late, early] = -(inv[..., late, late] @ cross_k @ inv[..., early, early])
    first, second = pre[..., half - 1, None, :], pre[..., -1, None, :].clone()
    pre[..., late, :] += first
    suf[..., early, :] += second
