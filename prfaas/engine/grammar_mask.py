"""What a matcher lets come next, as a mask: text, or the end where the grammar accepts. Knows no requests, no torch."""

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray


class GrammarMask:
    """The masks of all grammars of one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer, eos_token_ids: Sequence[int] | None) -> None:
        """`eos_token_ids` None: the tokenizer's own."""
        self._special = [i for i in range(tokenizer.vocab_size) if tokenizer.is_special_token(i)]
        self._eos = [tokenizer.eos_token] if eos_token_ids is None else list(eos_token_ids)

    def next(self, matcher: LLMatcher, vocab_size: int | None = None) -> NDArray[np.bool_]:
        """[V], true for tokens that may come now; V is the tokenizer's own size where `vocab_size` is None.

        In an error of the matcher, which it then tells, the mask means nothing.
        """
        mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little").astype(np.bool_)
        # Where the text of a special token must come, llguidance would let the token itself come, EOS included.
        mask[[i for i in (*self._special, *self._eos) if i < len(mask)]] = False
        if matcher.is_accepting():
            mask[[i for i in self._eos if i < len(mask)]] = True
        return mask if vocab_size is None else _resized(mask, vocab_size)


def _resized(mask: NDArray[np.bool_], vocab_size: int) -> NDArray[np.bool_]:
    """A model's vocabulary may be padded beyond the tokenizer's, and the bits of a mask to whole words."""
    return mask[:vocab_size] if len(mask) >= vocab_size else np.pad(mask, (0, vocab_size - len(mask)))
