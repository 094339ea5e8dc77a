"""The walk over chunks of one sequence. What happens inside them is the caller's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.delta_rule.step import unit

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class ChunkProducts:
    """With S the state before a chunk, outputs are `read @ S + within`; after it, S is `transition @ S + update`."""

    read: Tensor
    """[N, H, C, K]"""
    within: Tensor
    """[N, H, C, V]"""
    transition: Tensor
    """[N, H, K, K]"""
    update: Tensor
    """[N, H, K, V]"""


Products = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], ChunkProducts]
"""`q`, `k` [N, Hk, C, K], `v` [N, H, C, V], `log_decay` [N, H, C, K or 1], `beta` [N, H, C, 1]; fp32, C = 2^n."""


def prefill_in_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    state: Tensor,
    *,
    products: Products,
    blocks_together: int,
) -> tuple[Tensor, Tensor]:
    """Runs one sequence of T >= 1 tokens from `state` [H, K, V] fp32 (not written to).

    `q`, `k` [T, Hk, K] are normalised and q scaled here, `v` [T, H, V], `log_decay` [T, H, K or 1], `beta` [T, H];
    `blocks_together` chunks times heads are worked on at once. Returns outputs [T, H, V] and the final state, fp32.
    """
    tokens = q.shape[0]
    segment = _CHUNK * max(1, blocks_together // v.shape[1])
    out = q.new_empty(tokens, *v.shape[1:], dtype=torch.float32)
    for start in range(0, tokens, segment):
        part = slice(start, start + segment)
        new = min(segment, tokens - start)
        chunk = min(_CHUNK, 1 << (new - 1).bit_length())
        # A padded token has beta 0, decay 1 and key 0: it leaves the state alone.
        made = products(
            _chunked(unit(q[part]) * q.shape[-1] ** -0.5, chunk),
            _chunked(unit(k[part]), chunk),
            _chunked(v[part].float(), chunk),
            _chunked(log_decay[part], chunk),
            _chunked(beta[part, :, None], chunk),
        )
        out[part], state = _walk(made, state, new)
    return out, state


def _walk(products: ChunkProducts, state: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    before = []
    for transition, update in zip(products.transition, products.update, strict=True):
        before.append(state)
        state = torch.baddbmm(update, transition, state)
    out = torch.matmul(products.read, torch.stack(before)).add_(products.within)  # [N, H, chunk, V]
    return out.transpose(1, 2).flatten(0, 1)[:tokens], state


def _chunked(x: Tensor, chunk: int) -> Tensor:
    """[T, H, D] zero-padded to whole chunks and made head-major: [N, H, chunk, D]."""
    x = functional.pad(x, (0, 0, 0, 0, 0, -x.shape[0] % chunk))
    return torch.unflatten(x, 0, (-1, chunk)).transpose(1, 2).contiguous()
