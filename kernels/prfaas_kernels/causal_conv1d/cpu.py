"""The convolution by a compiled kernel; else one multiply-add per tap over token-major rows, in blocks in cache."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.causal_conv1d import compiled
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_BLOCK_TOKENS = 128


def causal_conv1d(x: Tensor, weight: Tensor, states: StateRows, spans: Spans) -> Tensor:
    """Convolves each span of `x` [T, C] with `weight` [W, C] (oldest tap first) after what came before it.

    `states` are the last W-1 inputs of each sequence, oldest first, W-1 rows of C entries; their `parts` are the
    channels of `x` one after another. They move on. Returns SiLU of the result [T, C] in the dtype of `x`; rows
    outside of all spans are not written.
    """
    parts = []
    for i, ((start, stop), context) in enumerate(zip(spans.rows, spans.context_lens, strict=True)):
        before = states.load(i, context)
        out, moved = conv_prefill(x[start:stop], weight, before) if stop > start else (x[start:stop], before)
        states.store(i, moved)
        parts.append(out)
    return spans.join(parts, x.shape[0])


def conv_prefill(x: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Convolves one sequence `x` [T, C], T >= 1, with `weight` [W, C] (oldest tap first).

    `state` [W-1, C] holds the inputs before `x`, oldest first, zeros before the start. Returns SiLU of the result
    [T, C] in the dtype of `x`, and the new state [W-1, C].
    """
    if compiled.fits(x, weight, state[None]):
        new_state = state.clone()
        return compiled.convolve(x, weight, new_state[None], 1), new_state
    tokens = x.shape[0]
    padded = torch.cat([state, x])  # [W-1+T, C]
    out = torch.empty_like(padded[:tokens])
    for start in range(0, tokens, _BLOCK_TOKENS):
        stop = min(start + _BLOCK_TOKENS, tokens)
        block = torch.mul(padded[start:stop], weight[0], out=out[start:stop])
        for tap in range(1, weight.shape[0]):
            block.addcmul_(padded[start + tap : stop + tap], weight[tap])
        functional.silu(block, inplace=True)
    return out, padded[tokens:]


def conv_decode(x: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token `x` [B, C] of each of B sequences whose last inputs are `state` [B, W-1, C].

    Returns SiLU of the result [B, C] and the new states [B, W-1, C].
    """
    if compiled.fits(x, weight, state):
        new_state = state.clone()
        return compiled.convolve(x, weight, new_state, x.shape[0]), new_state
    window = torch.cat([state, x[:, None]], dim=1)  # [B, W, C]
    return functional.silu((window * weight).sum(1)), window[:, 1:]
