"""How many bytes each format takes and where its parts lie, from shapes alone. Knows no tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

BLOCK_TOKENS = 64
"""Of `int8_channel`: tokens that share a channel's scale."""
GROUP_CHANNELS = 128
"""Of `int8_token`: channels that share a token's scale."""
HEADER_BYTES = 16
"""Of `exact`."""
LANES = 8
"""Of `exact`: a block is so many runs of values, whose codes at one place make a word of 24 bits."""
BLOCK_VALUES = 4096
"""Of `exact`; the last block may have fewer."""
RUN_VALUES = BLOCK_VALUES // LANES
"""Of `exact`: in a block that is not the last."""
MOST_VALUES = 2**30
"""Of one object, so that kernels count values, and those before them in a page, in 32 bits."""

_RUN_STEP = 16  # so that runs begin at addresses that wide loads take


def int8_channel_bytes(n: int, dims: Sequence[int]) -> int:
    """Of n tokens in `int8_channel`."""
    channels = prod(dims)
    return 4 * -(-n // BLOCK_TOKENS) * channels + n * channels


def int8_token_bytes(n: int, dims: Sequence[int]) -> int:
    """Of n tokens in `int8_token`."""
    channels = prod(dims)
    return n * (4 * -(-channels // GROUP_CHANNELS) + channels)


def state16_bytes(n: int, dims: Sequence[int]) -> int:
    """Of n rows of a state in `state16`."""
    return n * (4 + 2 * prod(dims))


def exact_most_bytes(n: int, dims: Sequence[int]) -> int:
    """The most that n tokens take in `exact`, and what its encoder writes into."""
    return ExactLayout(n * prod(dims)).raw_bytes


@dataclass(frozen=True, slots=True)
class ExactLayout:
    """Where the parts of an object of `values` values lie in `exact`, in bytes from its start."""

    values: int

    @property
    def blocks(self) -> int:
        """Of at most BLOCK_VALUES values."""
        return -(-self.values // BLOCK_VALUES)

    @property
    def last_run(self) -> int:
        """Values of a run of the last block, some of them padding."""
        left = self.values - (self.blocks - 1) * BLOCK_VALUES
        return -(-left // (LANES * _RUN_STEP)) * _RUN_STEP

    @property
    def runs(self) -> int:
        """Values of a run, summed over all blocks."""
        return (self.blocks - 1) * RUN_VALUES + self.last_run if self.values else 0

    @property
    def codes_at(self) -> int:
        """Of the codes, behind the signs and mantissas."""
        return HEADER_BYTES + LANES * self.runs

    @property
    def table_at(self) -> int:
        """Of the table of blocks."""
        return self.codes_at + 3 * self.runs

    @property
    def escapes_at(self) -> int:
        """Of the exponents that have no code: the last part."""
        return self.table_at + 4 * self.blocks

    @property
    def raw_bytes(self) -> int:
        """Of an object whose values are stored as they are."""
        return HEADER_BYTES + 2 * self.values

    @property
    def can_pay(self) -> bool:
        """Whether codes are smaller than values if no exponent needs an escape; else an encoder need not try."""
        return self.escapes_at < self.raw_bytes
