"""A decode instance without an engine: serves the Instance service and plays a script for every request."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import grpc
from tokenizers import Tokenizer

from prfaas.control.convert import failure_to_pb, request_from_pb, tokens_to_pb
from prfaas.control.dial import SERVER_OPTIONS
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceServicer, add_InstanceServicer_to_server
from prfaas.core.errors import CancelledError, PrfaasError
from prfaas.core.logprobs import TokenLogprobs
from tests.control.kv_rig import Life


@dataclass(frozen=True)
class Say:
    """Sends these tokens, each in an event of its own."""

    token_ids: Sequence[int]


@dataclass(frozen=True)
class Wait:
    """Goes on when the event is set, or when the request is cancelled."""

    event: asyncio.Event


@dataclass(frozen=True)
class Fail:
    """Ends with a `Failure` event."""

    error: PrfaasError


@dataclass(frozen=True)
class Abort:
    """Ends the stream, with all its calls, with a gRPC status, as a broken connection or a crash does."""

    status: grpc.StatusCode


@dataclass(frozen=True)
class Finish:
    """Ends with `Finished`; None: "length" where all tokens that were asked for came, else "stop"."""

    reason: str | None = None


Step = Say | Wait | Fail | Abort | Finish
Script = Callable[[pb.GenerateRequest], Sequence[Step]]
OnCancel = Literal["finish", "break", "ignore"]
"""Whoever wants the account gets `Finished` with it, or a failure, or nothing: it goes on as if nothing was said."""
Context = grpc.aio.ServicerContext[Any, Any]


def logprobs_of(token_id: int, num_top: int | None) -> TokenLogprobs | None:
    """What a fake says of a token: that it was second to the one before it."""
    if num_top is None:
        return None
    ids = [max(0, token_id - 1), token_id, *range(100, 100 + num_top)]
    return TokenLogprobs(-1.5, tuple((top, -0.5 - i) for i, top in enumerate(ids[:num_top])))


@dataclass
class FakeInstance(InstanceServicer):
    """`calls` has every request, `cancels` those that the router stopped, `abandoned` those it wanted no account of."""

    name: str
    tokenizer: Tokenizer
    cluster: str = "home"
    role: pb.Role = pb.ROLE_DECODE
    fingerprint: str = "f1"
    epoch: int = 1
    max_context_tokens: int = 0
    script: Script | None = None
    account: dict[str, Any] = field(default_factory=dict)
    on_cancel: OnCancel = "finish"
    forgets_logprobs: bool = False
    says_too_much: bool = False
    """More than was asked for is no fault of a script."""
    address: str = ""
    calls: list[pb.GenerateRequest] = field(default_factory=list)
    abandoned: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    cancels: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    publisher: Life | None = None
    """What it says of its prefix cache; None: nothing."""
    block_tokens: int = 4
    refuses_announcements: bool = False
    announced: "asyncio.Queue[pb.AnnounceRequest]" = field(default_factory=asyncio.Queue)
    role_orders: list[pb.ChangeRoleRequest] = field(default_factory=list)
    refuses_roles: str = ""
    """Why; empty: it begins to change."""
    load: pb.Load = field(default_factory=lambda: pb.Load(pages_total=100))

    def __post_init__(self) -> None:
        self._cancelled: dict[str, asyncio.Event] = {}
        self.num_streams = 0
        """Opened so far."""
        self.open_streams = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        add_InstanceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        """Dies at once; calls under way break."""
        if self._server:
            await self._server.stop(0)
            self._server = None

    def info(self) -> pb.InstanceInfo:
        return pb.InstanceInfo(
            instance_id=self.name,
            cluster=self.cluster,
            role=self.role,
            epoch=self.epoch,
            control_address=self.address,
            model_name="tiny",
            model_fingerprint=self.fingerprint,
            max_context_tokens=self.max_context_tokens,
            block_tokens=self.block_tokens if self.publisher else 0,
            kv_events_address=self.publisher.events if self.publisher else "",
            kv_replay_address=self.publisher.replay if self.publisher else "",
        )

    def says(self, text: str) -> Script:
        """Answers `text`, cut at the request's max_tokens."""

        def script(request: pb.GenerateRequest) -> Sequence[Step]:
            token_ids = self.tokenizer.encode(text).ids
            return [Say(token_ids[: request.sampling.max_tokens]), Finish()]

        return script

    async def Attend(self, commands: object, context: Context) -> None:  # type: ignore[override] # noqa: ARG002
        self.num_streams += 1
        self.open_streams += 1
        stream = _Stream(context)
        reading = asyncio.create_task(self._read(stream))
        try:
            either: list[asyncio.Future[Any]] = [reading, stream.aborted]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stream.aborted.done() and stream.aborted.result() is not grpc.StatusCode.OK:
                await context.abort(stream.aborted.result(), "as scripted")
        finally:
            stream.closed = True
            self.open_streams -= 1
            for task in (reading, *stream.playing.values()):
                task.cancel()

    async def _read(self, stream: "_Stream") -> None:
        while isinstance(message := await stream.context.read(), pb.AttendCommands):
            for command in message.commands:
                self._obey(stream, command)

    def _obey(self, stream: "_Stream", command: pb.AttendCommand) -> None:
        if command.HasField("generate"):
            self.calls.append(command.generate)
            playing = asyncio.create_task(self._serve(stream, command.call, command.generate))
            playing.set_name(command.generate.request_id)
            self._cancelled[command.generate.request_id] = asyncio.Event()
            stream.playing[command.call] = playing
        elif task := stream.playing.get(command.call):
            self._stop(task, command.stop)

    def _stop(self, task: "asyncio.Task[None]", stop: pb.StopCall) -> None:
        request_id = task.get_name()
        self.cancels.put_nowait(request_id)
        self._cancelled[request_id].set()
        if not stop.account or self.on_cancel == "break":
            task.cancel()

    async def _serve(self, stream: "_Stream", call: int, request: pb.GenerateRequest) -> None:
        self.started.set()
        ended = False
        try:
            async for event in self._play(request, stream):
                # The last event ends the request; whoever reads it may forget the call at once.
                ended = event.HasField("finished") or event.HasField("failure")
                await stream.write(call, event)
            ended = True
        except asyncio.CancelledError:
            if not stream.closed:
                gone = CancelledError("the request was cancelled")
                await stream.write(call, pb.GenerateEvent(failure=failure_to_pb(gone)))
            raise
        finally:
            del self._cancelled[request.request_id]
            del stream.playing[call]
            if not ended:
                self.abandoned.put_nowait(request.request_id)

    async def Prefill(
        self,
        request: pb.PrefillRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[pb.PrefillEvent]:
        message = f"{self.name} does not prefill {request.request_id}"
        yield pb.PrefillEvent(failure=pb.Failure(code="engine_failed", message=message))

    async def Announce(self, request: pb.AnnounceRequest, context: Context) -> pb.AnnounceReply:
        self.announced.put_nowait(request)
        if self.refuses_announcements:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return pb.AnnounceReply()

    async def Cancel(
        self,
        request: pb.CancelRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.CancelReply:
        self.cancels.put_nowait(request.request_id)
        if event := self._cancelled.get(request.request_id):
            event.set()
        return pb.CancelReply(found=event is not None)

    async def Drain(
        self,
        request: pb.DrainRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.DrainReply:
        return pb.DrainReply(running_requests=len(self._cancelled))

    async def ChangeRole(
        self,
        request: pb.ChangeRoleRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.ChangeRoleReply:
        self.role_orders.append(request)
        return pb.ChangeRoleReply(accepted=not self.refuses_roles, refusal=self.refuses_roles, role=self.role)

    async def _play(self, message: pb.GenerateRequest, stream: "_Stream") -> AsyncIterator[pb.GenerateEvent]:
        request = request_from_pb(message)
        cancelled = self._cancelled[message.request_id]
        num_said = 0
        for step in (self.script or self.says("hello world"))(message):
            async for token_id in self._steps_tokens(step, stream, cancelled):
                num_said += 1
                assert self.says_too_much or num_said <= request.sampling.max_tokens, (
                    "the script says more than was asked for"
                )
                num_top = None if self.forgets_logprobs else request.sampling.logprobs
                yield pb.GenerateEvent(tokens=tokens_to_pb(token_id, logprobs_of(token_id, num_top)))
            if cancelled.is_set() and self.on_cancel == "finish":
                yield self._finished(message, "cancelled")
                return
            if isinstance(step, Fail):
                yield pb.GenerateEvent(failure=failure_to_pb(step.error))
            if isinstance(step, Finish):
                done = "length" if num_said == request.sampling.max_tokens else "stop"
                yield self._finished(message, step.reason or done)

    async def _steps_tokens(self, step: Step, stream: "_Stream", cancelled: asyncio.Event) -> AsyncIterator[int]:
        match step:
            case Say(token_ids):
                for token_id in token_ids:
                    if not (cancelled.is_set() and self.on_cancel == "finish"):
                        yield token_id
            case Wait(event):
                await (_first_of(event, cancelled) if self.on_cancel == "finish" else event.wait())
            case Abort(status):
                stream.aborted.set_result(status)
                await asyncio.Event().wait()
            case Fail() | Finish():
                return
            case _:
                assert_never(step)

    def _finished(self, message: pb.GenerateRequest, reason: str) -> pb.GenerateEvent:
        remote = message.HasField("prefill")
        account = pb.Account(
            prefill_cluster=message.prefill.cluster if remote else self.cluster,
            prefill_instance=message.prefill.instance_id if remote else self.name,
            tokens_computed=len(message.prompt_token_ids),
            kv_bytes_raw=1000 if remote else 0,
            kv_bytes_wire=900 if remote else 0,
            kv_codec="raw" if remote else "none",
            transfer_ms=2.5 if remote else 0.0,
            decode_cluster=self.cluster,
            decode_instance=self.name,
            queue_ms=0.5,
            prefill_ms=3.0,
        )
        for key, value in self.account.items():
            setattr(account, key, value)
        return pb.GenerateEvent(finished=pb.Finished(reason=reason, account=account))


class _Stream:
    """One router's. Every event is a message of its own."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.closed = False
        self.playing: dict[int, asyncio.Task[None]] = {}
        self.aborted: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._writing = asyncio.Lock()

    async def write(self, call: int, event: pb.GenerateEvent) -> None:
        async with self._writing:
            if len(event.tokens.token_ids) and not event.tokens.logprobs:
                tokens = [pb.CallTokens(call=call, token_ids=event.tokens.token_ids)]
                await self.context.write(pb.AttendEvents(tokens=tokens))
            else:
                await self.context.write(pb.AttendEvents(events=[pb.CallEvent(call=call, event=event)]))


async def _first_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
