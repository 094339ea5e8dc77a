"""The rows of a state that an object carries, dense or in an arena; does not know how they are encoded."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from prfaas_kernels.pages import gather_rows, scatter_rows


@dataclass(frozen=True, slots=True)
class StateSpan:
    """Rows of `dims` fp32 values in an arena [bytes] uint8."""

    offsets: Tensor
    """[n] int64, on the arena's device: bytes at which rows begin, multiples of 64. No row is there twice."""
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StateValues:
    """`n` rows of `width` fp32 values each, and how to find them."""

    tensor: Tensor
    """[n, *dims] fp32 dense, or an arena [bytes] uint8."""
    offsets: Tensor | None
    """[n] int64; None if `tensor` is dense."""
    n: int
    width: int

    @classmethod
    def of(cls, tensor: Tensor, span: StateSpan | None) -> "StateValues":
        """All of a dense `tensor`, or those rows of an arena that `span` names."""
        if span is None:
            assert tensor.dtype is torch.float32, "states are fp32"
            assert tensor.is_contiguous(), "states are dense, or in an arena"
            return cls(tensor, None, tensor.shape[0], prod(tensor.shape[1:]))
        assert tensor.dtype is torch.uint8, "an arena is bytes"
        return cls(tensor, span.offsets.contiguous(), span.offsets.shape[0], prod(span.dims))

    def gather(self) -> Tensor:
        """The rows, [n, width]; a copy where they lie in an arena."""
        if self.offsets is None:
            return self.tensor.view(self.n, self.width)
        return gather_rows(self.tensor, self.offsets, self.width, torch.float32)

    def scatter(self, rows: Tensor) -> None:
        """Writes `rows` [n, width] to where `gather` reads them."""
        if self.offsets is None:
            self.tensor.view(self.n, self.width).copy_(rows)
        else:
            scatter_rows(self.tensor, self.offsets, rows)
