"""The recurrence that defines the gated delta rule, one token after another, in fp32."""

import torch
from torch import Tensor


def _unit(x: Tensor) -> Tensor:
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


def gdn_reference(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs the recurrence over one sequence (Gated Delta Networks, arXiv 2412.06464, Eq. 10).

    `q`, `k` [T, Hk, K], `v` [T, Hv, V], `log_decay`, `beta` [T, Hv], `state` [Hv, K, V]. Key head i serves the value
    heads from i * Hv/Hk on. Returns outputs [T, Hv, V] and the final state, both fp32.
    """
    shared = v.shape[1] // k.shape[1]
    q, k, v, state = _unit(q.float()) / q.shape[-1] ** 0.5, _unit(k.float()), v.float(), state.float()
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    outputs = []
    for t in range(q.shape[0]):
        state = state * log_decay[t].float().exp()[:, None, None]
        recalled = torch.einsum("hkv,hk->hv", state, k[t])
        written = beta[t].float()[:, None] * (v[t] - recalled)
        state = state + torch.einsum("hk,hv->hkv", k[t], written)
        outputs.append(torch.einsum("hkv,hk->hv", state, q[t]))
    return torch.stack(outputs), state
