"""Where the values of an object lie, by address: what compiled kernels are told. Owns none of that memory."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import MOST_VALUES


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """`tokens` rows of `channels` values each, bf16 or fp32. Whoever makes one answers for the addresses."""

    address: int
    tokens: int
    channels: int
    bf16: bool
    first: int = 0
    """Tokens of the first page before the first token."""
    page_tokens: int = 0
    """0: the rows are dense."""
    page_stride: int = 0
    """Values from one page to the next."""
    page_ids: "array[int] | None" = None
    """int64, from the first token's page on."""

    def __post_init__(self) -> None:
        if self.values > MOST_VALUES:
            raise CodecError(f"an object has at most {MOST_VALUES} values, not {self.values}")

    @classmethod
    def scattered(cls, address: int, offsets: Sequence[int], channels: int, *, bf16: bool) -> "TokenPlaces":
        """Rows that begin `offsets` values behind `address`."""
        return cls(address, len(offsets), channels, bf16, page_tokens=1, page_stride=1, page_ids=array("q", offsets))

    @property
    def values(self) -> int:
        """Of all rows together."""
        return self.tokens * self.channels

    @property
    def raw_bytes(self) -> int:
        """Of all rows, not encoded."""
        return self.values * (2 if self.bf16 else 4)

    def fields(self) -> tuple[int, ...]:
        """C's `TokenRows`; valid as long as this object is."""
        page_ids = self.page_ids.buffer_info()[0] if self.page_ids is not None else 0
        where = self.first, self.page_tokens, self.page_stride
        return (self.tokens, self.channels, *where, self.bf16, self.address, page_ids)


@dataclass(frozen=True, slots=True)
class StatePlaces:
    """Rows of `width` fp32 values each, which begin `offsets` bytes behind `address`."""

    address: int
    offsets: "array[int]"
    """int64."""
    width: int

    @property
    def rows(self) -> int:
        return len(self.offsets)

    @property
    def raw_bytes(self) -> int:
        """Of all rows, not encoded."""
        return 4 * self.rows * self.width
