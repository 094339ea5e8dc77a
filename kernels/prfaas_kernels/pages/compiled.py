"""Moving rows by the compiled kernel."""

from struct import Struct

from torch import Tensor

from prfaas_kernels.native import active, call

_ROWS = Struct("5q3q")  # struct Rows of pages.cpp


def fits(arena: Tensor, offsets: Tensor) -> bool:
    """Whether the kernel can do this: on a CPU, offsets of a sequence side by side."""
    return active() and arena.is_cpu and offsets.dim() <= 2 and (offsets.stride(-1) == 1 or offsets.shape[-1] <= 1)


def move_rows(arena: Tensor, offsets: Tensor, dense: Tensor, start: int, *, to_pages: bool) -> None:
    """Copies between elements from `start` on of the arena's rows and `dense` [*offsets.shape, width]."""
    one, size = offsets.dim() == 1, dense.element_size()
    arguments = _ROWS.pack(
        1 if one else offsets.shape[0],
        offsets.shape[-1],
        0 if one else offsets.stride(0),
        dense.shape[-1] * size,
        to_pages,
        arena.data_ptr() + start * size,
        offsets.data_ptr(),
        dense.data_ptr(),
    )
    call("move_rows", arguments)
