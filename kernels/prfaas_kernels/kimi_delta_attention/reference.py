"""The recurrence that defines Kimi Delta Attention, one token after another, in fp32."""

import torch
from torch import Tensor


def _unit(x: Tensor) -> Tensor:
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


def kda_reference(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs the recurrence over one sequence (Kimi Linear, arXiv 2510.26692, Eq. 1).

    `q`, `k`, `log_decay` [T, H, K], `v` [T, H, V], `beta` [T, H], `state` [H, K, V]. Returns outputs [T, H, V] and
    the final state, both fp32.
    """
    q, k, v, state = _unit(q.float()) / q.shape[-1] ** 0.5, _unit(k.float()), v.float(), state.float()
    outputs = []
    for t in range(q.shape[0]):
        state = state * log_decay[t].float().exp()[..., None]
        recalled = torch.einsum("hkv,hk->hv", state, k[t])
        written = beta[t].float()[:, None] * (v[t] - recalled)
        state = state + torch.einsum("hk,hv->hkv", k[t], written)
        outputs.append(torch.einsum("hkv,hk->hv", state, q[t]))
    return torch.stack(outputs), state
