"""Token ids of a text piece by piece: what stood in an earlier one, as a conversation's turns do, is not encoded again.

A tokenizer cuts a text at its special tokens before it does anything else, so what lies between two of them is encoded
alike wherever it stands. Knows no templates.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any

from tokenizers import AddedToken, Tokenizer

MAX_KEPT_CHARS = 64 << 20
"""Of all pieces kept; with their ids a character takes about ten bytes."""
MAX_KEPT_PIECES = 1 << 16
MIN_KEPT_CHARS = 32
"""Shorter ones are encoded sooner than found."""

EncodePieces = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Texts in which nothing is a special token → the ids of each."""


class Segments:
    """Encodes texts whose special tokens stand in them; any thread may call."""

    def __init__(self, tokenizer: Tokenizer, encode: EncodePieces, max_kept_chars: int = MAX_KEPT_CHARS) -> None:
        """`tokenizer` must be one that `separable` agrees to; `encode` encodes as it does."""
        self._encode = encode
        self._ids = {token.content: token_id for token_id, token in _cutting(tokenizer).items()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._max_kept_chars = max_kept_chars
        self._kept: OrderedDict[str, Sequence[int]] = OrderedDict()
        self._kept_chars = 0
        self._lock = Lock()

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of the whole text, without those that a post-processor would add."""
        pieces = self._cut.split(text)
        known = self._known(pieces[::2])
        missing = [piece for piece, ids in known.items() if ids is None]
        known.update(zip(missing, self._encode(missing), strict=True))
        self._keep({piece: known[piece] or () for piece in missing})
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                ids.append(self._ids[piece])
            elif piece:
                ids.extend(known[piece] or ())
        return tuple(ids)

    @property
    def kept_chars(self) -> int:
        """Of all pieces whose ids are kept."""
        return self._kept_chars

    def _known(self, pieces: Sequence[str]) -> dict[str, Sequence[int] | None]:
        with self._lock:
            known = {piece: self._kept.get(piece) for piece in pieces if piece}
            for piece, ids in known.items():
                if ids is not None:
                    self._kept.move_to_end(piece)
            return known

    def _keep(self, encoded: dict[str, Sequence[int]]) -> None:
        with self._lock:
            for piece, ids in encoded.items():
                if len(piece) >= MIN_KEPT_CHARS and piece not in self._kept:
                    self._kept[piece] = ids
                    self._kept_chars += len(piece)
            while self._kept_chars > self._max_kept_chars or len(self._kept) > MAX_KEPT_PIECES:
                oldest, _ = self._kept.popitem(last=False)
                self._kept_chars -= len(oldest)


def separable(tokenizer: Tokenizer) -> bool:
    """Whether texts may be encoded piece by piece: nothing that the tokenizer does looks beyond a special token."""
    described = json.loads(tokenizer.to_str())
    steps = list(_steps(described.get("pre_tokenizer"), "pretokenizers"))
    looks_at_start = any(step.get("prepend_scheme") == "first" for step in steps)
    tokens = tokenizer.get_added_tokens_decoder().values()
    # Those that take spaces beside them, or must stand alone, are not found by their letters only.
    plain = not any(token.lstrip or token.rstrip or token.single_word for token in tokens)
    return plain and not looks_at_start and bool(_cutting(tokenizer))


def _cutting(tokenizer: Tokenizer) -> dict[int, AddedToken]:
    """Tokens that are looked for in the text as it is, before anything is normalised."""
    return {i: token for i, token in tokenizer.get_added_tokens_decoder().items() if not token.normalized}


def _steps(step: dict[str, Any] | None, children: str) -> Iterator[dict[str, Any]]:
    if step is not None:
        yield step
        for child in step.get(children, ()):
            yield from _steps(child, children)
