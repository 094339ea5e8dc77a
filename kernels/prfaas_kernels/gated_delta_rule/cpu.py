"""The gated delta rule by a compiled kernel; else in matrix products: chunks in WY form, one fused step for decode."""

from torch import Tensor
from torch.nn import functional

from prfaas_kernels.delta_rule import decode_step, in_spans, prefill_in_chunks, unit
from prfaas_kernels.gated_delta_rule.chunk import chunk_products
from prfaas_kernels.native.delta_rule import delta_rule, fits
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_BLOCKS_TOGETHER = 64  # chunks times heads worked on at once: enough to batch, few enough to stay in cache


def gdn_log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """Log of the decay, `-exp(a_log) * softplus(a + dt_bias)` <= 0, in fp32.

    `a` [T, Hv], `a_log` [Hv], `dt_bias` [Hv]. Returns [T, Hv].
    """
    return functional.softplus(a.float() + dt_bias.float()).mul_(-a_log.float().exp())


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, states: StateRows, spans: Spans
) -> Tensor:
    """Runs each span from its sequence's state, which moves on; q and k are normalised and q scaled here.

    `q`, `k` [T, Hk, K], `v` [T, Hv, V], `log_decay` [T, Hv] fp32 <= 0, `beta` [T, Hv] fp32, `states` Hv rows [K, V]
    fp32 of each sequence. Key head i serves the Hv/Hk value heads from i * Hv/Hk on. Returns [T, Hv, V] in the dtype
    of `v`; rows outside of all spans are not written.
    """
    return in_spans(gdn_prefill, (q, k, v, log_decay, beta), states, spans)


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
        return delta_rule(q, k, v, log_decay, beta, state[None], 1), state
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
        return delta_rule(q, k, v, log_decay, beta, state, q.shape[0]), state
    shared = v.shape[1] // k.shape[1]
    q, k = unit(q) * q.shape[-1] ** -0.5, unit(k)
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    return decode_step(q, k, v, log_decay.exp()[..., None, None], beta, state), state
