"""The delta rule by its compiled kernel: prefill and decode, decays per head or per channel."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.native.shared_library import call, takes

_MAX_KEY = 256
_DELTA = Struct("12q7q")  # struct Delta of delta_rule.cpp


def fits(q: Tensor, k: Tensor, v: Tensor, states: Tensor) -> bool:
    """Whether the kernel can do this: some rows, one dtype, keys of at most 256, fp32 `states` dense in a sequence."""
    same = q.dtype == k.dtype == v.dtype and states.dtype == torch.float32
    small = 0 < k.shape[2] <= _MAX_KEY and q.shape[0] > 0
    return takes(q, k, v, states) and same and small and states[:1].is_contiguous()


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    states: Tensor,
    sequences: int,
) -> Tensor:
    """Runs R = sequences * tokens rows, sequence after sequence; `states` move on in place.

    `q`, `k` [R, Hk, K], `v` [R, H, V], `log_decay` [R, H] or [R, H, K], `beta` [R, H],
    `states` [sequences, H, K, V]. Returns outputs [R, H, V] fp32.
    """
    q, k, v = _heads_dense(q), _heads_dense(k), _heads_dense(v)
    log_decay, beta = log_decay.float().contiguous(), beta.float().contiguous()
    out = torch.empty(v.shape, dtype=torch.float32)
    arguments = _DELTA.pack(
        sequences,
        q.shape[0] // sequences,
        *k.shape[1:],
        *v.shape[1:],
        log_decay.shape[2] if log_decay.dim() == 3 else 1,
        q.dtype is torch.bfloat16,
        q.stride(0),
        k.stride(0),
        v.stride(0),
        states.stride(0),
        *(x.data_ptr() for x in (q, k, v, log_decay, beta, states)),
        out.data_ptr(),
    )
    call("delta_rule", arguments)
    return out


def _heads_dense(x: Tensor) -> Tensor:
    return x if x.stride(1) == x.shape[2] and x.stride(2) == 1 else x.contiguous()
