"""The requests of routers, each router's on one stream: commands in, events out. Knows no engine."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import CancelledError, DrainingError, EngineError, PrfaasError, RequestError, UnavailableError
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason
from prfaas.instance.outgoing import CallAnswer, Outgoing

MAX_CONCURRENT_CALLS = 4096
"""Beyond these an instance refuses requests, rather than queue prompts without bound."""

Commands = AsyncIterator[pb.AttendCommands]
AttendContext = grpc.aio.ServicerContext[pb.AttendCommands, pb.AttendEvents]

log = logging.getLogger(__name__)


class Answer(Protocol):
    """Where the events of one request go; no call of it waits."""

    def token(self, token_id: int, logprobs: TokenLogprobs | None) -> None: ...

    def finished(self, reason: FinishReason, account: pb.Account) -> None: ...

    def failed(self, error: PrfaasError) -> None: ...


class Requests(Protocol):
    """What runs requests."""

    async def generate(self, message: pb.GenerateRequest, answer: Answer) -> None:
        """Returns when the request's last event is in `answer`; cancelled, it frees what it held and tells nothing."""

    def cancel(self, request_id: str) -> bool:
        """Ends a request that has its first token with `finished`; False for any other."""


@dataclass(frozen=True, slots=True)
class _Call:
    request_id: str
    task: asyncio.Task[None]


@dataclass(slots=True, eq=False)
class _Stream:
    """One router's."""

    outgoing: Outgoing = field(default_factory=Outgoing)
    calls: dict[int, _Call] = field(default_factory=dict)
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class AttendService:
    """Serves `Instance.Attend`."""

    def __init__(self, instance_id: str, requests: Requests, max_calls: int = MAX_CONCURRENT_CALLS) -> None:
        self._instance_id = instance_id
        self._requests = requests
        self._max_calls = max_calls
        self._running: dict[str, asyncio.Task[None]] = {}
        self._streams: set[_Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        """Requests on all streams."""
        return len(self._running)

    def cancel(self, request_id: str) -> bool:
        """Ends a request, with its account if it has its first token, else with a failure."""
        task = self._running.get(request_id)
        return self._requests.cancel(request_id) or (task is not None and task.cancel())

    def cut(self) -> None:
        """Cancels all that runs; each router hears so."""
        for task in self._running.values():
            task.cancel()

    async def finished(self) -> None:
        """Returns once nothing runs and every router has been told so."""
        while self._running:
            await self._idle.wait()
        for stream in list(self._streams):
            await stream.outgoing.all_sent()

    async def serve(self, commands: Commands, context: AttendContext, *, takes: Callable[[], bool]) -> None:
        """One stream, until its router ends it; what runs on it then is cancelled if the router is gone.

        While `takes` is false new requests are refused.
        """
        stream = _Stream()
        self._streams.add(stream)
        writing = asyncio.create_task(_write(stream.outgoing, context))
        reading = asyncio.current_task()
        assert reading
        writing.add_done_callback(lambda _: _end_with(writing, reading))
        try:
            async for message in commands:
                for command in message.commands:
                    self._obey(stream, command, takes=takes())
            while stream.calls:
                stream.idle.clear()
                await stream.idle.wait()
            await stream.outgoing.all_sent()
        finally:
            self._streams.discard(stream)
            writing.cancel()
            for call in stream.calls.values():
                call.task.cancel()

    def _obey(self, stream: _Stream, command: pb.AttendCommand, *, takes: bool) -> None:
        number = command.call
        match command.WhichOneof("command"):
            case "generate":
                if refusal := self._refusal(stream, number, command.generate, takes=takes):
                    CallAnswer(stream.outgoing, number).failed(refusal)
                else:
                    self._begin(stream, number, command.generate)
            case "stop":
                # It may have ended a moment ago.
                if call := stream.calls.get(number):
                    _stop(self._requests, call, with_account=command.stop.account)
            case _:
                refusal = RequestError(f"{self._instance_id} does not know this command for call {number}")
                CallAnswer(stream.outgoing, number).failed(refusal)

    def _refusal(self, stream: _Stream, number: int, message: pb.GenerateRequest, *, takes: bool) -> PrfaasError | None:
        if earlier := stream.calls.pop(number, None):
            # Its router could not tell whose events they are.
            earlier.task.cancel()
            return RequestError(f"call {number} came twice on one stream; both are ended")
        if not message.request_id:
            return RequestError(f"call {number} has no request_id")
        if not takes:
            return DrainingError(f"{self._instance_id} is draining; send the request elsewhere")
        if message.request_id in self._running:
            return EngineError(f"{message.request_id} is already running on {self._instance_id}")
        if len(self._running) >= self._max_calls:
            return UnavailableError(f"{self._instance_id} has {self._max_calls} requests; send this one elsewhere")
        return None

    def _begin(self, stream: _Stream, number: int, message: pb.GenerateRequest) -> None:
        answer = CallAnswer(stream.outgoing, number)
        task = asyncio.create_task(self._requests.generate(message, answer))
        call = _Call(message.request_id, task)
        stream.calls[number] = call
        self._running[message.request_id] = task
        self._idle.clear()
        task.add_done_callback(lambda _: self._over(stream, call, answer))

    def _over(self, stream: _Stream, call: _Call, answer: CallAnswer) -> None:
        """Also for a task that was cancelled before its first step."""
        del self._running[call.request_id]
        if not self._running:
            self._idle.set()
        told = stream.calls.get(answer.call) is not call
        if not told:
            del stream.calls[answer.call]
            stream.idle.set()
        if call.task.cancelled():
            error: PrfaasError = CancelledError("the request was cancelled")
        elif failure := call.task.exception():  # a request's edge: whatever it was, others go on
            log.error("request %s failed", call.request_id, exc_info=failure)
            error = EngineError(f"{type(failure).__name__}: {failure}")
        else:
            return
        if not told:
            answer.failed(error)


def _stop(requests: Requests, call: _Call, *, with_account: bool) -> None:
    if not (with_account and requests.cancel(call.request_id)):
        call.task.cancel()


def _end_with(writing: asyncio.Task[None], reading: asyncio.Task[None]) -> None:
    """A stream on which nothing can be said any more ends; mostly its router has gone and gRPC is about to tell."""
    if not writing.cancelled():
        log.info("a router's stream broke: %r", writing.exception())
        reading.cancel()


async def _write(outgoing: Outgoing, context: AttendContext) -> None:
    while True:
        await context.write(await outgoing.take())
        outgoing.sent()
