"""The gated delta rule by a compiled kernel; else in matrix products: chunks in WY form, one fused step for decode."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.gated_delta_rule.chunk import chunk_products
from prfaas_kernels.native.delta_rule import delta_rule, fits

_CHUNK = 64
_BLOCKS_TOGETHER = 64  # chunks times heads worked on at once: enough to batch, few enough to stay in cache


def gdn_log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """Log of the decay, `-exp(a_log) * softplus(a + dt_bias)` <= 0, in fp32.

    `a` [T, Hv], `a_log` [Hv], `dt_bias` [Hv]. Returns [T, Hv].
    """
    return functional.softplus(a.float() + dt_bias.float()).mul_(-a_log.float().exp())


def _unit(x: Tensor) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _chunked(x: Tensor, chunk: int) -> Tensor:
    """[T, H, D] zero-padded to whole chunks and made head-major: [N, H, chunk, D]."""
    x = functional.pad(x, (0, 0, 0, 0, 0, -x.shape[0] % chunk))
    return torch.unflatten(x, 0, (-1, chunk)).transpose(1, 2).contiguous()


def gdn_prefill(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs one sequence of T >= 1 tokens from `state`; q and k are normalised and q scaled here.

    `q`, `k` [T, Hk, K], `v` [T, Hv, V], `log_decay` [T, Hv] fp32 <= 0, `beta` [T, Hv] fp32, `state` [Hv, K, V] fp32
    (not written to). Key head i serves the Hv/Hk value heads from i * Hv/Hk on. Returns outputs [T, Hv, V] and the
    final state [Hv, K, V], both fp32. The recurrence is in `reference.py`, the form used here in README.md.
    """
    if fits(q, k, v, state[None]):
        state = state.clone()
        return delta_rule(q, k, v, log_decay, beta, state[None], None, 1), state
    tokens = q.shape[0]
    segment = _CHUNK * max(1, _BLOCKS_TOGETHER // v.shape[1])
    out = q.new_empty(tokens, *v.shape[1:], dtype=torch.float32)
    for start in range(0, tokens, segment):
        part = slice(start, start + segment)
        out[part], state = _segment(q[part], k[part], v[part], log_decay[part], beta[part], state)
    return out, state


def _segment(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    tokens = q.shape[0]
    chunk = min(_CHUNK, 1 << (tokens - 1).bit_length())
    # A padded token has beta 0, decay 1 and key 0: it leaves the state alone.
    products = chunk_products(
        _chunked(_unit(q) * q.shape[-1] ** -0.5, chunk),
        _chunked(_unit(k), chunk),
        _chunked(v.float(), chunk),
        _chunked(log_decay[..., None], chunk),
        _chunked(beta[..., None], chunk),
    )
    before = []
    for transition, update in zip(products.transition, products.update, strict=True):
        before.append(state)
        state = torch.baddbmm(update, transition, state)
    out = torch.matmul(products.read, torch.stack(before)).add_(products.within)  # [N, Hv, chunk, V]
    return out.transpose(1, 2).flatten(0, 1)[:tokens], state


def gdn_decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of each of B sequences. `state` [B, Hv, K, V] fp32 is updated in place and returned.

    `q`, `k` [B, Hk, K], `v` [B, Hv, V], `log_decay`, `beta` [B, Hv]. Returns outputs [B, Hv, V] fp32 and `state`.
    """
    if fits(q, k, v, state):
        return delta_rule(q, k, v, log_decay, beta, state, None, q.shape[0]), state
    shared = v.shape[1] // k.shape[1]
    q, k = _unit(q) * q.shape[-1] ** -0.5, _unit(k)
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    state.mul_(log_decay.exp()[..., None, None])
    recalled, read = torch.matmul(torch.stack([k, q], dim=2), state).unbind(2)  # [B, Hv, V] each
    written = beta[..., None] * (v - recalled)
    state.addcmul_(k[..., None], written[:, :, None])
    return read + (q * k).sum(-1, keepdim=True) * written, state


def gdn_decode_slots(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, states: Tensor, slots: Tensor
) -> Tensor:
    """`gdn_decode` of sequences whose states are `states[slots]`, updated in place without a copy where possible.

    `states` [slots, Hv, K, V] fp32, `slots` [B] int64, no two equal. Returns outputs [B, Hv, V] fp32.
    """
    if fits(q, k, v, states) and slots.is_contiguous():
        return delta_rule(q, k, v, log_decay, beta, states, slots, q.shape[0])
    out, states[slots] = gdn_decode(q, k, v, log_decay, beta, states[slots])
    return out
