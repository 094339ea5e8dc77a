"""Text and chats into token ids, with the tokenizer and the chat template of the model directory."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from prfaas.core.errors import ContextLengthError, ModelError, RequestError
from prfaas.gateway.chat_template import ChatTemplate, Message, load_chat_template
from prfaas.gateway.detokenize import Detokenizer
from prfaas.gateway.encoder import Encoder
from prfaas.gateway.token_bytes import TokenBytes
from prfaas.gateway.whole_tokens import WholeTokens

INLINE_CHARS = 8192
"""Shorter texts take about a millisecond: less than a thread costs other requests."""
INLINE_MESSAGES = 64


class ModelTokenizer:
    """Encodes prompts and begins the decoding of answers."""

    def __init__(self, tokenizer: Tokenizer, chat_template: ChatTemplate | None) -> None:
        # Some checkpoints ship these for training; here they would cut or fill prompts without a word.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._encoder = Encoder(tokenizer)
        self.token_bytes = TokenBytes(tokenizer)
        self._whole_tokens = WholeTokens(tokenizer)
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._num_ids = 1 + max(vocabulary.values(), default=-1)
        self._longest_token_chars = max(map(len, vocabulary), default=1)

    @classmethod
    def load(cls, path: Path) -> "ModelTokenizer":
        """Reads `tokenizer.json` and the chat template of a model directory. Raises ModelError."""
        file = path / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{file} is not a usable tokenizer: {error}") from error
        return cls(tokenizer, load_chat_template(path))

    async def encode_chat(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]:
        """The chat as token ids, up to where the answer begins; `tools` and `variables` are the template's.

        Raises RequestError if there is no chat template, ContextLengthError for what cannot be `max_tokens` or fewer.
        """
        template = self._chat_template
        if template is None:
            raise RequestError("this model has no chat template; use /v1/completions")
        chars = sum(len(message["content"]) for message in messages)
        self._check_length(chars, max_tokens)

        def encode() -> tuple[int, ...]:
            # The template writes the special tokens itself.
            return self._encoder.encode(template.render(messages, tools, variables), add_special_tokens=False)

        inline = chars <= INLINE_CHARS and len(messages) <= INLINE_MESSAGES and not tools and not variables
        return encode() if inline else await asyncio.to_thread(encode)

    async def encode_text(self, text: str, max_tokens: int) -> tuple[int, ...]:
        """A plain prompt as token ids, with the special tokens that the tokenizer's post-processor adds.

        Raises ContextLengthError for what cannot be `max_tokens` or fewer.
        """
        self._check_length(len(text), max_tokens)
        if len(text) <= INLINE_CHARS:
            return self._encoder.encode(text, add_special_tokens=True)
        return await asyncio.to_thread(self._encoder.encode, text, add_special_tokens=True)

    def check_ids(self, token_ids: Sequence[int], field: str = "prompt") -> tuple[int, ...]:
        """Token ids that a client sent. Raises RequestError, naming `field`, for ids outside the vocabulary."""
        if token_ids and (wrong := min(token_ids)) < 0:
            raise RequestError(f"{field}: token id {wrong} is negative")
        if token_ids and (wrong := max(token_ids)) >= self._num_ids:
            raise RequestError(f"{field}: token id {wrong} is outside the vocabulary of {self._num_ids} ids")
        return tuple(token_ids)

    def detokenizer(self, stop_strings: Sequence[str]) -> Detokenizer:
        """The decoder of one answer."""
        return Detokenizer(self._tokenizer, self._whole_tokens, stop_strings)

    def _check_length(self, chars: int, max_tokens: int) -> None:
        """Refuses a text that cannot fit before seconds of a processor go into finding out by how much."""
        if chars > max_tokens * self._longest_token_chars:
            raise ContextLengthError(
                f"the prompt has {chars} characters, at least {chars // self._longest_token_chars} tokens; "
                f"the context has {max_tokens}"
            )
