"""The recurrence that defines Lightning attention, one token after another, in fp32."""

import torch
from torch import Tensor


def lightning_reference(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`S[t] = exp(g) S[t-1] + k[t] v[t]ᵀ`, `o[t] = S[t]ᵀ q[t]` (Lightning Attention-2, arXiv 2401.04658, s3.1).

    `q`, `k` [T, H, K], `v` [T, H, V], `log_decay` g [H], `state` [H, K, V]. Returns outputs [T, H, V] and the final
    state, both fp32.
    """
    q, k, v, state = q.float(), k.float(), v.float(), state.float()
    decay = log_decay.float().exp()[:, None, None]
    outputs = []
    for t in range(q.shape[0]):
        state = decay * state + torch.einsum("hk,hv->hkv", k[t], v[t])
        outputs.append(torch.einsum("hkv,hk->hv", state, q[t]))
    return torch.stack(outputs), state
