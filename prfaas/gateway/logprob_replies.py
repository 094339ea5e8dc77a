"""Logprobs in OpenAI's two shapes: one object per token for chats, parallel lists for texts."""

from collections.abc import Sequence

from prfaas.gateway.alignment import ScoredToken
from prfaas.gateway.replies import ChatLogprobs, TextLogprobs, TokenLogprob, TopLogprob
from prfaas.gateway.token_bytes import TokenBytes


def chat_logprobs(scored: Sequence[ScoredToken], table: TokenBytes) -> ChatLogprobs:
    """Exactly as many alternatives as were asked for; the drawn token need not be among them."""
    content = []
    for token_id, _, logprobs in scored:
        tops = [TopLogprob(table.name(top_id), value, _bytes(top_id, table)) for top_id, value in logprobs.top]
        content.append(TokenLogprob(table.name(token_id), logprobs.logprob, _bytes(token_id, table), tops))
    return ChatLogprobs(content)


def text_logprobs(scored: Sequence[ScoredToken], table: TokenBytes) -> TextLogprobs:
    """The drawn token is always among the alternatives, so that there can be one more than was asked for."""
    names = [table.unique_name(token.token_id) for token in scored]
    return TextLogprobs(
        tokens=names,
        token_logprobs=[token.logprobs.logprob for token in scored],
        top_logprobs=[
            {table.unique_name(top_id): value for top_id, value in token.logprobs.top} | {name: token.logprobs.logprob}
            for name, token in zip(names, scored, strict=True)
        ],
        text_offset=[token.offset for token in scored],
    )


def _bytes(token_id: int, table: TokenBytes) -> list[int] | None:
    raw = table.of(token_id)
    return None if raw is None else list(raw)
