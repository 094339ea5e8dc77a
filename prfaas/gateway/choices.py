"""All choices of one call as one stream of pieces, and what they used together. Knows no JSON."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from prfaas.core.request import MAX_SEED
from prfaas.gateway.answer import Answer, Piece
from prfaas.gateway.replies import PromptTokensDetails, Trace, Usage

_Outcome = Piece | BaseException


def choice_seed(seed: int, index: int) -> int:
    """The seed of one of n choices of a prompt; the first is drawn as if it were the only one."""
    return (seed + index * 0x9E3779B97F4A7C15) & MAX_SEED


class Choices:
    """Iterate for pieces of any choice, in the order in which they come. The first failure is raised; then `close`."""

    def __init__(self, answers: Sequence[Answer], per_prompt: int) -> None:
        """`answers` in the order of their indices, `per_prompt` of them for each prompt."""
        self._answers = answers
        self._per_prompt = per_prompt
        self._unfinished = len(answers)
        self._pieces: asyncio.Queue[_Outcome] = asyncio.Queue(maxsize=len(answers))
        self._pumps: list[asyncio.Task[None]] = []

    def __aiter__(self) -> AsyncIterator[Piece]:
        # One answer needs no merging, which would cost every token of most requests.
        return self._answers[0] if len(self._answers) == 1 else self

    async def __anext__(self) -> Piece:
        if not self._unfinished:
            raise StopAsyncIteration
        if not self._pumps:
            self._pumps = [asyncio.create_task(self._pump(answer)) for answer in self._answers]
        outcome = await self._pieces.get()
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome.finish_reason:
            self._unfinished -= 1
        return outcome

    @property
    def finished(self) -> bool:
        """Every choice has had its last piece."""
        return self._answers[0].finished if len(self._answers) == 1 else not self._unfinished

    @property
    def ready(self) -> bool:
        """The next piece would come without a wait."""
        return self._answers[0].ready if len(self._answers) == 1 else not self._pieces.empty()

    @property
    def count(self) -> int:
        return len(self._answers)

    def usage(self) -> Usage:
        """Each prompt counts once, whatever the number of its choices."""
        firsts = self._answers[:: self._per_prompt]
        prompt = sum(answer.prompt_tokens for answer in firsts)
        completion = sum(answer.completion_tokens for answer in self._answers)
        cached = sum(answer.cached_tokens for answer in firsts)
        return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))

    def traces(self) -> Trace | list[Trace]:
        """Of the only choice, or of all."""
        traces = [answer.trace() for answer in self._answers]
        return traces[0] if len(traces) == 1 else traces

    async def close(self) -> None:
        """Ends what still runs."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pump(self, answer: Answer) -> None:
        try:
            async for piece in answer:
                await self._pieces.put(piece)
        except Exception as error:  # noqa: BLE001 - raised again where the pieces are read
            await self._pieces.put(error)
