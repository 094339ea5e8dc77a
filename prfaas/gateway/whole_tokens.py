"""Texts of tokens that are whole characters by themselves, and so mean the same wherever they stand."""

import json

from tokenizers import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What the decoder shows for bytes that are no character, or not yet."""


class WholeTokens:
    """Looked up in a table where asking the tokenizer takes microseconds; most tokens of most answers are such.

    Only for byte-level decoders, which put bytes together and look at nothing else; of others no token is known.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
        self._byte_level = decoder.get("type") == "ByteLevel"
        self._added = frozenset(tokenizer.get_added_tokens_decoder())
        self._texts: dict[int, str | None] = {}

    def text(self, token_id: int) -> str | None:
        """None where it takes the tokenizer to know, with what is around the token."""
        try:
            return self._texts[token_id]
        except KeyError:
            text = self._texts[token_id] = self._find(token_id)
            return text

    def _find(self, token_id: int) -> str | None:
        if not self._byte_level or token_id in self._added:
            return None
        text = self._tokenizer.decode([token_id])
        return text if text and UNFINISHED not in text else None
