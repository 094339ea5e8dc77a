"""The bytes that a single token stands for, by the kinds of decoders that checkpoints use. Knows no text around it."""

import json
import re

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "▁"


class TokenBytes:
    """A character may be spread over several tokens, so that a token alone has bytes but perhaps no text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoder = json.dumps(json.loads(tokenizer.to_str()).get("decoder"), ensure_ascii=False)
        self._byte_level = '"ByteLevel"' in decoder
        self._byte_fallback = '"ByteFallback"' in decoder
        self._metaspace = _METASPACE in decoder or '"Metaspace"' in decoder
        added = tokenizer.get_added_tokens_decoder()
        self._added = {token_id: token.content.encode() for token_id, token in added.items() if not token.special}
        self._special = {token_id: token.content for token_id, token in added.items() if token.special}

    def of(self, token_id: int) -> bytes | None:
        """None for tokens without text: special ones, and ids beyond the tokenizer's vocabulary."""
        if token_id in self._special:
            return None
        if (added := self._added.get(token_id)) is not None:
            return added
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            return None
        if self._byte_level:
            return bytes(_BYTES.get(char, ord("?")) for char in piece)
        if self._byte_fallback and (byte := _BYTE.fullmatch(piece)):
            return bytes([int(byte[1], 16)])
        return (piece.replace(_METASPACE, " ") if self._metaspace else piece).encode()

    def name(self, token_id: int) -> str:
        """Text to show for a token; bytes that are no whole characters become replacement marks."""
        raw = self.of(token_id)
        return self._special.get(token_id, "") if raw is None else raw.decode("utf-8", "replace")

    def unique_name(self, token_id: int) -> str:
        """As `name`, but in OpenAI's notation `bytes:\\\\xe4` where that would show marks: tokens stay apart."""
        raw = self.of(token_id)
        if raw is None:
            return self._special.get(token_id, f"id:{token_id}")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _byte_chars() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable ones as they are, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_chars()
