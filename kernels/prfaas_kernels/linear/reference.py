"""The definition of a dense projection, in fp32."""

from torch import Tensor


def linear_reference(x: Tensor, weight: Tensor) -> Tensor:
    """`x` [..., I] times the transpose of `weight` [O, I], in fp32: [..., O]."""
    return x.float() @ weight.float().T
