"""Kimi Delta Attention by compiled kernels; else in matrix products: chunks in WY form, one fused step for decode."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.delta_rule import decode_step, in_spans, prefill_in_chunks, unit
from prfaas_kernels.kimi_delta_attention import compiled
from prfaas_kernels.kimi_delta_attention.chunk import chunk_products
from prfaas_kernels.native import takes
from prfaas_kernels.native.delta_rule import delta_rule, fits
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_BLOCKS_TOGETHER = 16  # chunks times heads worked on at once: enough to batch, few enough to stay in cache


def kda_log_decay(x: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """Log of the per-channel decay, `-exp(a_log) * softplus(x + dt_bias)` <= 0, in fp32.

    `x` [T, H*K], `a_log` [H], `dt_bias` [H*K]. Returns [T, H, K].
    """
    if takes(x):
        return compiled.log_decay(x, a_log, dt_bias)
    rate = torch.unflatten(functional.softplus(x.float() + dt_bias), -1, (a_log.shape[0], -1))
    return rate.mul_(-a_log.exp()[:, None])


def kimi_delta_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, states: StateRows, spans: Spans
) -> Tensor:
    """Runs each span from its sequence's state, which moves on; q and k are normalised and q scaled here.

    `q`, `k` [T, H, K], `v` [T, H, V], `log_decay` [T, H, K] fp32 <= 0, `beta` [T, H] fp32, `states` H rows [K, V]
    fp32 of each sequence. Returns [T, H, V] in the dtype of `v`; rows outside of all spans are not written.
    """
    return in_spans(kda_prefill, (q, k, v, log_decay, beta), states, spans)


def kda_prefill(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs one sequence of T >= 1 tokens from `state`; q and k are normalised and q scaled here.

    `q`, `k` [T, H, K], `v` [T, H, V], `log_decay` [T, H, K] fp32 <= 0, `beta` [T, H] fp32, `state` [H, K, V] fp32
    (not written to). Returns outputs [T, H, V] and the final state [H, K, V], both fp32. The recurrence is in
    `reference.py`, the form used here in README.md.
    """
    if fits(q, k, v, state[None]):
        state = state.clone()
        return delta_rule(q, k, v, log_decay, beta, state[None], 1), state
    return prefill_in_chunks(q, k, v, log_decay, beta, state, products=chunk_products, blocks_together=_BLOCKS_TOGETHER)


def kda_decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of each of B sequences. `state` [B, H, K, V] fp32 is updated in place and returned.

    `q`, `k`, `log_decay` [B, H, K], `v` [B, H, V], `beta` [B, H]. Returns outputs [B, H, V] fp32 and `state`.
    """
    if fits(q, k, v, state):
        return delta_rule(q, k, v, log_decay, beta, state, q.shape[0]), state
    q, k = unit(q) * q.shape[-1] ** -0.5, unit(k)
    return decode_step(q, k, v, log_decay.exp()[..., None], beta, state), state
