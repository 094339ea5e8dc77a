"""How attention is cut into tiles for a GPU: from sizes alone, by what the compiler says of registers and memory."""

from typing import NamedTuple


class Tiling(NamedTuple):
    """Of one kernel."""

    block_m: int
    """Rows of queries of a program: tokens times heads that share keys."""
    block_n: int
    """Keys of a step."""
    num_warps: int
    num_stages: int


def split_width(width: int) -> tuple[int, int]:
    """A head size as a power of two and what is left: padding 192 to 256 would cost a third more products."""
    main = 1 << (width.bit_length() - 1)
    return main, width - main


def packed_heads(sharing: int, block_m: int) -> int:
    """How many of the `sharing` heads that read the same keys one program works for: a power of two."""
    return min(sharing & -sharing, block_m)


def tiling(widest: int, element_bytes: int, capability: int) -> Tiling:
    """For tiles of keys or values of up to `widest` elements each on a GPU of this compute capability.

    What is mixed so far stays in registers, [block_m, widest] in fp32: up to 128 of a thread's 255. Of three stages
    one is for the lookup of pages; keys and values of the next step are on their way during the present one.
    """
    if element_bytes > 2:
        return Tiling(32, 16, 8, 2) if widest > 256 else Tiling(64, 32, 4 if widest <= 128 else 8, 2)
    if widest > 256:
        return Tiling(64, 32, 8, 3)
    if widest > 128:
        return Tiling(64, 32, 4, 3) if capability < 90 else Tiling(128, 64, 8, 3)
    return Tiling(128, 64 if capability < 90 else 128, 8, 3)


def window_tiling(widest: int, element_bytes: int, capability: int) -> Tiling:
    """As `tiling`, where a program has few steps: some window and what its queries themselves span."""
    if element_bytes > 2 or widest > 128:
        return tiling(widest, element_bytes, capability)
    return Tiling(128, 64, 8, 3)


def dense_tiling(widest: int, element_bytes: int, capability: int) -> Tiling:
    """As `tiling`, for keys that lie side by side: no lookup, so a stage less."""
    block_m, block_n, num_warps, num_stages = tiling(widest, element_bytes, capability)
    return Tiling(block_m, block_n, num_warps, max(2, num_stages - 1))
