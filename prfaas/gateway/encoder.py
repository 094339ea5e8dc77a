"""Texts to token ids as a tokenizer file says, in the quickest way that gives the same ids. Knows no templates."""

import logging
from collections.abc import Sequence

from tokenizers import Tokenizer

from prfaas.gateway.fast_bpe import fast_bpe
from prfaas.gateway.segments import Segments, separable

log = logging.getLogger(__name__)


class Encoder:
    """One tokenizer's; any thread may call, and long texts let other threads run."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._segments = Segments(tokenizer, self._pieces) if separable(tokenizer) else None
        # Without its own special tokens cut out, a text is not ordinary.
        self._fast = fast_bpe(tokenizer) if self._segments else None
        self._before, self._behind = self._around()
        log.info(
            "prompts are encoded %s, %s",
            "by tiktoken" if self._fast else "by tokenizers alone",
            "and what stood in earlier ones is kept" if self._segments else "each anew",
        )

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """`add_special_tokens`: those that the post-processor puts around a text; those inside are always read."""
        if self._segments is None:
            (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
            return tuple(encoding.ids)
        ids = self._segments.encode(text)
        return (*self._before, *ids, *self._behind) if add_special_tokens else ids

    def _pieces(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        found = [self._fast.encode(piece) if self._fast else None for piece in pieces]
        rest = [piece for piece, ids in zip(pieces, found, strict=True) if ids is None]
        # Of its encode calls only the batch ones release the GIL, and the fast one computes no offsets.
        encodings = iter(self._tokenizer.encode_batch_fast(rest, add_special_tokens=False) if rest else ())
        return [next(encodings).ids if ids is None else ids for ids in found]

    def _around(self) -> tuple[Sequence[int], Sequence[int]]:
        """What the post-processor puts before a text and behind it."""
        bare, full = (self._tokenizer.encode("a", add_special_tokens=added).ids for added in (False, True))
        starts = range(len(full) - len(bare) + 1)
        start = next(i for i in starts if full[i : i + len(bare)] == bare)
        return full[:start], full[start + len(bare) :]
