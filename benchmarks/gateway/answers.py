"""Answers without an engine: all tokens at once, or one for every request at each tick, as a decode step gives them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.request import FinishReason
from prfaas.instance.attend import Answer

AT_ONCE_TOKENS = 16
"""Answers of no more than these never wait for a tick."""


@dataclass(slots=True, eq=False)
class _Streaming:
    answer: Answer
    left: list[int]
    """The last one comes first."""
    done: asyncio.Future[None]


class Answers:
    """What an `AttendService` runs. Every answer has exactly the `max_tokens` that were asked for."""

    def __init__(self, name: str, cluster: str, token_ids: Sequence[int], spacing_s: float) -> None:
        """Answers repeat `token_ids`; with a spacing of 0, and when they are short, they come at once."""
        self._account = pb.Account(
            decode_instance=name, decode_cluster=cluster, prefill_instance=name, prefill_cluster=cluster
        )
        self._token_ids = token_ids
        self._spacing_s = spacing_s
        self._streaming: set[_Streaming] = set()

    def cancel(self, request_id: str) -> bool:  # noqa: ARG002 - nothing here is worth an account
        return False

    async def generate(self, message: pb.GenerateRequest, answer: Answer) -> None:
        tokens = list(islice(cycle(self._token_ids), message.sampling.max_tokens))
        if self._spacing_s and len(tokens) > AT_ONCE_TOKENS:
            await self._stream(_Streaming(answer, tokens[::-1], asyncio.get_running_loop().create_future()))
        else:
            for token_id in tokens:
                answer.token(token_id, None)
        answer.finished(FinishReason.LENGTH, self._account)

    async def tick(self) -> None:
        """Runs for ever. The first token of a request does not wait for its turn."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while self._spacing_s:
            due_s = max(due_s + self._spacing_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            for request in list(self._streaming):
                self._step(request)

    async def _stream(self, request: _Streaming) -> None:
        self._streaming.add(request)
        try:
            self._step(request)
            await request.done
        finally:
            self._streaming.discard(request)

    def _step(self, request: _Streaming) -> None:
        if request.left:
            request.answer.token(request.left.pop(), None)
        if not request.left and not request.done.done():
            request.done.set_result(None)
