"""Numbers of rows that products are done with, few enough for oneDNN to remember; knows no product."""

from torch import Tensor
from torch.nn import functional

LARGEST_UNPADDED = 8
"""Up to here every number of rows is one of the few."""


def few_sizes(rows: int) -> int:
    """The next of 1 to 8, 10, 12, 14, 16, 20, 24, 28, 32, 40 and so on: at most a quarter more.

    For each number of rows oneDNN compiles kernels (about a millisecond) and keeps them (about a megabyte), a
    thousand in all: sizes must be few where prompts have every length.
    """
    step = 1 << max(0, (rows - 1).bit_length() - 3)
    return -(-rows // step) * step


def padded(x: Tensor) -> Tensor:
    """`x` [T, I] with rows of zeros after it, to the next of the few sizes; itself if T >= 1 is one of them."""
    missing = few_sizes(x.shape[0]) - x.shape[0]
    return functional.pad(x, (0, 0, 0, missing)) if missing else x
