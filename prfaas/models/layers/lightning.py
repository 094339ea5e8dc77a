"""Lightning attention: linear attention with a fixed decay per head, a norm and a gate on its output."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prfaas.core.decoder_spec import Lightning
from prfaas.models.batch import LayerTensors
from prfaas.models.batch_index import Angles, BatchIndex, Round
from prfaas.models.layers.rounds import in_rounds
from prfaas.models.layers.shared_norm import SharedNorm
from prfaas.models.state_tensor import StateTensor
from prfaas_kernels.lightning_attention import lightning_attention, lightning_decode
from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.rotary import apply_rotary


@dataclass(frozen=True)
class LightningLayer:
    """Weights of one rank's H heads of size D. Caches one state: H rows [D, D] fp32."""

    spec: Lightning
    """With this rank's heads."""
    log_decay: Tensor
    """[H] fp32"""
    project_in: Weight
    """[4HD, hidden]: q, k, v, gate."""
    q_norm: Tensor | None
    """[D]"""
    k_norm: Tensor | None
    """[D]"""
    out_norm: SharedNorm
    project_out: Weight
    """[hidden, HD]"""
    eps: float

    def __call__(self, x: Tensor, index: BatchIndex, cache: LayerTensors) -> Tensor:
        """`x` [T, hidden], normalised, to what the layer adds to the residual, [T, hidden]."""
        width = self.spec.num_heads * self.spec.head_dim
        qkv, gate = torch.split(linear(x, self.project_in), [3 * width, width], dim=-1)
        qkv = functional.silu(qkv) if self.spec.silu else qkv
        q, k, v = torch.unflatten(qkv, -1, (3, self.spec.num_heads, -1)).unbind(1)  # [T, H, D] each
        q, k = self._place(q, self.q_norm, index.angles), self._place(k, self.k_norm, index.angles)
        out = self._attend(q, k, v, index, *cache.states).flatten(1)  # [T, HD]
        normed = self.out_norm(out.float().mul_(self.spec.scale))
        return linear(normed.mul_(gate.float().sigmoid()).to(x.dtype), self.project_out)

    def _place(self, x: Tensor, norm: Tensor | None, angles: Angles) -> Tensor:
        if norm is not None:
            x = rms_norm(x, norm, self.eps)
        rotary = self.spec.rotary
        return x if rotary is None else apply_rotary(x, *angles[rotary], interleaved=rotary.interleaved)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, index: BatchIndex, states: StateTensor) -> Tensor:
        decodes, rows = index.num_decodes, index.decode_rows
        if decodes == q.shape[0]:
            return lightning_decode(q, k, v, self.log_decay, states.rows(rows, rows))
        out = in_rounds(index, lambda one: self._prefill(q, k, v, one, states))
        if decodes:
            new = slice(0, decodes)
            out[new] = lightning_decode(q[new], k[new], v[new], self.log_decay, states.rows(rows, rows))
        return out

    def _prefill(self, q: Tensor, k: Tensor, v: Tensor, one: Round, states: StateTensor) -> Tensor:
        return lightning_attention(q, k, v, self.log_decay, states.rows(one.read, one.written), one.spans)
