"""The tokens that an object carries, dense or in the pages of a cache; does not know how they are encoded."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import MOST_VALUES


@dataclass(frozen=True, slots=True)
class PageSpan:
    """Tokens [start, stop) of the sequence whose pages are `page_ids`, in order."""

    page_ids: Tensor
    """[P] int64, on the device of the pages; P * page_tokens is at least `stop`."""
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TokenRows:
    """`tokens` rows of `channels` values each, and how to find them."""

    tensor: Tensor
    """[tokens, *dims] dense, or pages [N, page_tokens, *dims], each page dense in itself."""
    page_ids: Tensor | None
    """[P] int64 from the first token's page on; None if `tensor` is dense."""
    first: int
    """Tokens of the first page before the first token."""
    tokens: int
    channels: int

    @classmethod
    def of(cls, tensor: Tensor, span: PageSpan | None) -> "TokenRows":
        """All of a dense `tensor`, or those of its tokens that `span` names. Raises CodecError if they are too many."""
        if span is None:
            rows = cls(tensor, None, 0, tensor.shape[0], prod(tensor.shape[1:]))
            assert tensor.is_contiguous(), "values are dense, or in pages"
        else:
            page_tokens = tensor.shape[1]
            assert 0 <= span.start <= span.stop <= page_tokens * span.page_ids.shape[0], "tokens are in the pages"
            assert tensor[:1].is_contiguous(), "a page is dense in itself"
            page_ids = span.page_ids[span.start // page_tokens :].contiguous()
            first = span.start % page_tokens
            rows = cls(tensor, page_ids, first, span.stop - span.start, prod(tensor.shape[2:]))
        if rows.values > MOST_VALUES:
            raise CodecError(f"an object has at most {MOST_VALUES} values, not {rows.values}")
        return rows

    @property
    def values(self) -> int:
        """Of all tokens together."""
        return self.tokens * self.channels

    @property
    def page_tokens(self) -> int:
        """Tokens of a page; 0 if there are no pages."""
        return 0 if self.page_ids is None else self.tensor.shape[1]

    @property
    def page_stride(self) -> int:
        """Elements from one page to the next; 0 if there are no pages."""
        return 0 if self.page_ids is None else self.tensor.stride(0)

    def gather(self) -> Tensor:
        """The rows, [tokens, channels]; a copy where they lie in pages."""
        found = self.tensor if self.page_ids is None else self.tensor[self._places()]
        return found.view(self.tokens, self.channels)

    def scatter(self, rows: Tensor) -> None:
        """Writes `rows` [tokens, channels] of the tensor's dtype to where `gather` reads them."""
        if self.page_ids is None:
            self.tensor.view(self.tokens, self.channels).copy_(rows)
        else:
            self.tensor[self._places()] = rows.view(self.tokens, *self.tensor.shape[2:])

    def _places(self) -> tuple[Tensor, Tensor]:
        assert self.page_ids is not None
        token = torch.arange(self.first, self.first + self.tokens, device=self.tensor.device)
        return self.page_ids[token // self.page_tokens], token % self.page_tokens
