"""The dense SwiGLU."""

from dataclasses import dataclass

from torch import Tensor

from prfaas_kernels.linear import Weight, linear
from prfaas_kernels.norm import silu_and_mul


@dataclass(frozen=True)
class Mlp:
    """`down(silu(gate x) * up x)`, on any number of rows."""

    gate_up: Weight
    """[2I, hidden], gate rows first."""
    down: Weight
    """[hidden, I]"""

    def __call__(self, x: Tensor) -> Tensor:
        return linear(silu_and_mul(linear(x, self.gate_up)), self.down)
