"""Lightning attention as batched matrix products: chunks for prefill, one fused step for decode."""

import torch
from torch import Tensor

from prfaas_kernels.delta_rule import in_spans
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHUNK = 64


def lightning_attention(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: StateRows, spans: Spans) -> Tensor:
    """Runs each span from its sequence's state, which moves on.

    `q`, `k` [T, H, K], `v` [T, H, V], `log_decay` [H] fp32 <= 0, per token, `states` H rows [K, V] fp32 of each
    sequence. Returns [T, H, V] in the dtype of `v`; rows outside of all spans are not written.
    """

    def prefill(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return lightning_prefill(q, k, v, log_decay, state)

    return in_spans(prefill, (q, k, v), states, spans)


def lightning_prefill(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Runs one sequence of T >= 1 tokens from `state`. Formulas are in README.md, the recurrence in `reference.py`.

    `q`, `k` [T, H, K], `v` [T, H, V], `log_decay` [H] fp32 <= 0, per token, `state` [H, K, V] fp32 (not written to).
    Returns outputs [T, H, V] and the final state [H, K, V], both fp32.
    """
    tokens = q.shape[0]
    out = v.new_empty(v.shape, dtype=torch.float32)
    chunk = min(_CHUNK, tokens)
    steps = torch.arange(chunk + 1, device=q.device)
    powers = (steps * log_decay[:, None]).exp()  # [H, chunk + 1]: the decay over 0, 1, … tokens
    distance = steps[:chunk, None] - steps[:chunk]  # [chunk, chunk]
    within = powers[:, distance.clamp(min=0)] * (distance >= 0)  # [H, chunk, chunk]
    for start in range(0, tokens, chunk):
        part = slice(start, min(start + chunk, tokens))
        size = part.stop - start
        rows, keys, values = (x[part].transpose(0, 1).float() for x in (q, k, v))  # [H, size, ·]
        weights = torch.bmm(rows, keys.mT).mul_(within[:, :size, :size])
        read = torch.bmm(rows * powers[:, 1 : size + 1, None], state)
        out[part] = read.baddbmm_(weights, values).transpose(0, 1)
        aged = keys * powers[:, :size, None].flip(1)
        state = torch.baddbmm(powers[:, size, None, None] * state, aged.mT, values)
    return out, state


def lightning_decode(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: StateRows) -> Tensor:
    """One token of each of B sequences, from their `states`, H rows [K, V] fp32 each, which move on.

    `q`, `k` [B, H, K], `v` [B, H, V], `log_decay` [H]. Returns [B, H, V] in the dtype of `v`.
    """
    state = states.load_all()  # [B, H, K, V]
    state.mul_(log_decay.exp()[:, None, None]).addcmul_(k.float()[..., None], v.float()[:, :, None])
    states.store_all(state)
    return torch.matmul(q.float()[:, :, None], state)[:, :, 0].to(v.dtype)
