"""Token ids into text as they come: whole characters only, and never any part of a stop string."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from prfaas.gateway.whole_tokens import UNFINISHED, WholeTokens

MAX_HELD_TOKENS = 32
"""Every further token decodes all that are held, so a run of bytes that never becomes a character is cut."""
MAX_CHARACTER_TOKENS = 4


class TextDecoder:
    """Text of a growing list of tokens. The pieces add up to the decoding of all tokens at once."""

    def __init__(self, tokenizer: Tokenizer, whole: WholeTokens) -> None:
        self._tokenizer = tokenizer
        self._whole = whole
        self._stream = DecodeStream(skip_special_tokens=True)
        self._shown: list[int] = []
        """The tokens of the last piece: decoding the next ones depends on them."""
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that has become certain; empty inside a character."""
        return self.push_all((token_id,))

    def push_all(self, token_ids: Sequence[int]) -> str:
        """The same for several tokens at once, for the price of one."""
        if len(token_ids) == 1 and not self._held and (text := self._whole.text(token_ids[0])) is not None:
            return text
        self._held.extend(token_ids)
        try:
            piece = self._stream.step(self._tokenizer, token_ids)
        except Exception:  # noqa: BLE001 - the library raises nothing narrower
            # Decoders that join runs of bytes take back characters they have shown; go on from what is held.
            piece = self._decode(self._held)
            self._stream = DecodeStream(self._held, skip_special_tokens=True)
        if piece is None:
            return self._cut() if len(self._held) > MAX_HELD_TOKENS else ""
        self._shown, self._held = self._held, []
        return piece

    def flush(self) -> str:
        """The rest, an unfinished character included; the end of this decoder."""
        rest = self._pending()
        self._held = []
        return rest

    def _pending(self) -> str:
        return self._decode(self._shown + self._held)[len(self._decode(self._shown)) :]

    def _cut(self) -> str:
        """Gives out what is held but for the last, perhaps unfinished, character."""
        text = self._pending()
        if not text.endswith(UNFINISHED):  # special tokens, which have no text
            self._held = []
            self._stream = DecodeStream(self._shown, skip_special_tokens=True)
            return text
        for tail in range(1, MAX_CHARACTER_TOKENS + 1):
            last = self._decode(self._held[-tail:])
            head = self._decode(self._shown + self._held[:-tail])[len(self._decode(self._shown)) :]
            # Cutting inside a character shows one mark more than there are, so equality finds its edge.
            if head + last == text:
                self._shown, self._held = [], self._held[-tail:]
                self._stream = DecodeStream(self._held, skip_special_tokens=True)
                return head
        return ""

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)


class StopMatcher:
    """Cuts a stream of text at the stop string that is complete first (of two, the longer), wherever chunks end."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        assert all(stop_strings), "an empty stop string would match everywhere"
        self._stops = tuple(stop_strings)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.matched = False

    def push(self, text: str) -> str:
        """The text that is certainly before any stop string."""
        assert not self.matched
        if not self._stops:
            return text
        text = self._held + text
        matches = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if matches:
            self.matched = True
            self._held = ""
            return text[: min(matches)[1]]
        certain = len(text) - self._beginning_at_end(text)
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What was held back and, as the text ended, was no stop string."""
        rest, self._held = self._held, ""
        return rest

    def _beginning_at_end(self, text: str) -> int:
        """Length of the longest beginning of a stop string that `text` ends with."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class Detokenizer:
    """One answer: token ids in, text out, until a stop string."""

    def __init__(self, tokenizer: Tokenizer, whole: WholeTokens, stop_strings: Sequence[str]) -> None:
        self._decoder = TextDecoder(tokenizer, whole)
        self._matcher = StopMatcher(stop_strings)
        self.can_stop = bool(stop_strings)
        self.decoded_chars = 0
        """Characters that have become certain, those included that may yet be part of a stop string."""

    @property
    def stopped(self) -> bool:
        """A stop string was found: no more tokens are wanted."""
        return self._matcher.matched

    def push(self, token_id: int) -> str:
        """The text that the client may see now."""
        return self.push_all((token_id,))

    def push_all(self, token_ids: Sequence[int]) -> str:
        """The same for several tokens at once; after a stop string nobody knows which of them it ended with."""
        text = self._decoder.push_all(token_ids)
        self.decoded_chars += len(text)
        return self._matcher.push(text) if self.can_stop else text

    def flush(self) -> str:
        """The rest, once the last token came; it can still end in a stop string."""
        text = self._matcher.push(self._decoder.flush())
        return text + self._matcher.flush()
