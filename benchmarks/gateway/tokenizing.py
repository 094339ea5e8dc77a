"""What encoding a prompt costs by itself, with the gateway's own encoder, and with the library that it replaces."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from prfaas.gateway.chat_template import Message, load_chat_template
from prfaas.gateway.encoder import Encoder


class Tokenizing:
    """Remembers what it encoded, as the gateway does."""

    def __init__(self, model: Path) -> None:
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._encoder = Encoder(self._tokenizer)
        template = load_chat_template(model)
        assert template, "it has been written with one"
        self._template = template

    def encoder_ms(self, chat: Sequence[Message]) -> float:
        """The gateway's encoder."""
        text = self._template.render(chat)
        return _taken_ms(lambda: self._encoder.encode(text, add_special_tokens=False))

    def library_ms(self, chat: Sequence[Message]) -> float:
        """The tokenizers library."""
        text = self._template.render(chat)
        return _taken_ms(lambda: self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _taken_ms(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return (time.perf_counter() - begun_s) * 1e3
