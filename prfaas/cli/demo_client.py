"""The demo's client: the `openai` SDK against the fleet's endpoint, with the account of each request."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import openai
from openai import AsyncOpenAI

from prfaas.core.errors import EngineError

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt of the demo; `prefill` forces where it is prefilled, `salt` keeps what is cached of it apart."""

    label: str
    content: str
    max_tokens: int
    prefill: Literal["local", "remote"] | None = None
    salt: str = ""
    before: tuple[tuple[str, str], ...] = ()
    """(role, content) of the conversation until then."""

    def headers(self) -> dict[str, str]:
        forced = {"x-prfaas-prefill": self.prefill} if self.prefill else {}
        return {"x-prfaas-trace": "1", **forced}

    def body(self, model: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": role, "content": text} for role, text in (*self.before, ("user", self.content))],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            # Random weights may end an answer at once; the demo wants to show tokens.
            "extra_body": {"ignore_eos": True} | ({"cache_salt": self.salt} if self.salt else {}),
            "extra_headers": self.headers(),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """An answer and the fleet's account of it (the `prfaas` object of the response, and `usage`)."""

    ask: Ask
    text: str
    account: dict[str, Any]

    @property
    def token_ids(self) -> list[int]:
        return list(self.account["token_ids"])


class DemoClient:
    """Talks to one endpoint; failures become typed errors that carry the endpoint's own words."""

    def __init__(self, http_address: str, model: str) -> None:
        self._model = model
        self._sdk = AsyncOpenAI(
            base_url=f"http://{http_address}/v1", api_key="not-needed", max_retries=0, timeout=TIMEOUT_S
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._sdk.close()

    async def ask(self, ask: Ask) -> Result:
        """One answer, all at once."""
        try:
            answer = await self._sdk.chat.completions.create(**ask.body(self._model))
        except openai.APIError as error:
            raise EngineError(f"the request {ask.label!r} failed: {error}") from error
        return _result(ask, answer.choices[0].message.content or "", answer)

    async def ask_all(self, asks: Sequence[Ask], concurrency: int, on_done: Callable[[Result], None]) -> list[Result]:
        """Several answers in flight at once, returned in the order of `asks`."""
        turn = asyncio.Semaphore(concurrency)

        async def one(ask: Ask) -> Result:
            async with turn:
                result = await self.ask(ask)
            on_done(result)
            return result

        return await asyncio.gather(*(one(ask) for ask in asks))

    async def stream(self, ask: Ask, write: Callable[[str], None]) -> Result:
        """One answer, handed to `write` piece by piece as it comes."""
        text: list[str] = []
        last: Any = None
        try:
            chunks = await self._sdk.chat.completions.create(
                **ask.body(self._model), stream=True, stream_options={"include_usage": True}
            )
            async for chunk in chunks:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    text.append(piece)
                    write(piece)
                last = chunk
        except openai.APIError as error:
            raise EngineError(f"the request {ask.label!r} failed: {error}") from error
        return _result(ask, "".join(text), last)


def _result(ask: Ask, text: str, response: Any) -> Result:
    account = (response.model_extra or {}).get("prfaas")
    if account is None or response.usage is None:
        raise EngineError(f"the answer to {ask.label!r} has no account; is the endpoint prfaas's?")
    usage = {
        "prompt_tokens": response.usage.prompt_tokens,
        "completion_tokens": response.usage.completion_tokens,
        "cached_tokens": response.usage.prompt_tokens_details.cached_tokens,
    }
    return Result(ask, text, {**account, "label": ask.label, "usage": usage})
