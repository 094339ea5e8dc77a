"""The gated delta rule by a compiled kernel; else in matrix products: chunks in WY form, one fused step for decode."""

from torch import Tensor
from torch.nn import functional

from prfaas_kernels.delta_rule import decode_step, prefill_in_chunks, unit
from prfaas_kernels.gated_delta_rule.chunk import chunk_products
from prfaas_kernels.native.delta_rule import delta_rule, fits

_BLOCKS_TOGETHER = 64  # chunks times heads worked on at once: enough to batch, few enough to stay in cache


def gdn_log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """Log of the decay, `-exp(a_log) * softplus(a + dt_bias)` <= 0, in fp32.

    `a` [T, Hv], `a_log` [Hv], `dt_bias` [Hv]. Returns [T, Hv].
    """
    return functional.softplus(a.float() + dt_bias.float()).mul_(-a_log.float().exp())


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
    return prefill_in_chunks(
        q, k, v, log_decay[..., None], beta, state, products=chunk_products, blocks_together=_BLOCKS_TOGETHER
    )


def gdn_decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of each of B sequences. `state` [B, Hv, K, V] fp32 is updated in place and returned.

    `q`, `k` [B, Hk, K], `v` [B, Hv, V], `log_decay`, `beta` [B, Hv]. Returns outputs [B, Hv, V] fp32 and `state`.
    """
    if fits(q, k, v, state):
        return delta_rule(q, k, v, log_decay, beta, state, None, q.shape[0]), state
    shared = v.shape[1] // k.shape[1]
    q, k = unit(q) * q.shape[-1] ** -0.5, unit(k)
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    return decode_step(q, k, v, log_decay.exp()[..., None, None], beta, state), state


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
