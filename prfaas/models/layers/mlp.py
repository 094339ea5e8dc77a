"""The dense SwiGLU."""

from torch import Tensor
from torch.nn import functional

from prfaas_kernels.linear import linear


class Mlp:
    """`down(silu(gate x) * up x)`, on any number of rows."""

    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        """`gate_up` [2I, hidden] (gate rows first), `down` [hidden, I]."""
        self.gate_up = gate_up
        self.down = down

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = linear(x, self.gate_up).chunk(2, dim=-1)  # [T, I] each
        return linear(functional.silu(gate).mul_(up), self.down)
