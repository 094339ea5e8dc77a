"""A request from end to end: reserve memory, get the prompt's KV from elsewhere or compute it, stream tokens.

The decode instance owns the request, so every failure before the first token ends here: in a prefill on this instance.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

from prfaas.control.convert import request_from_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import CancelledError, ContextLengthError, DeadlineError, PrfaasError, RequestError
from prfaas.core.request import FinishReason, Request
from prfaas.engine.messages import Admitted, BeginDecode, Generated, Prefilled, PrefillHere
from prfaas.instance.attend import Answer
from prfaas.instance.fetch import Fetcher, Undelivered
from prfaas.instance.fetched import Fetched
from prfaas.instance.front import Front
from prfaas.instance.identity import Identity
from prfaas.instance.prefix_fetch import PrefixFetches
from prfaas.instance.stream import RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.inbox import Received
from prfaas.wire.header import CODEC_NAMES

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Journal:
    """What happened to a request so far, for its account."""

    identity: Identity
    prefill_cluster: str = ""
    prefill_instance: str = ""
    received: Received | None = None
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    tokens_computed: int = 0
    tokens_reused: int = 0
    tokens_held: int = 0
    tokens_verified: int = 0
    bytes_again: int = 0
    fallback: str = ""
    fetched: Fetched | None = None
    """What another instance's cache sent here before the prompt was computed here."""
    tokens_fetched: int = 0
    fetched_from: str = ""

    def local(self, request: Request, event: Prefilled) -> None:
        self.prefill_cluster, self.prefill_instance = self.identity.cluster, self.identity.instance_id
        self.tokens_reused, self.tokens_verified = event.tokens_reused, event.tokens_verified
        self.tokens_computed = request.prompt_tokens - event.tokens_reused - event.tokens_verified
        self.queue_ms += event.queue_s * 1e3
        self.prefill_ms = event.prefill_s * 1e3
        if self.fetched is not None:
            self.tokens_fetched = self.fetched.tokens(event.tokens_reused)
            self.fetched_from = self.fetched.source(event.tokens_reused)

    def imported(self, target: pb.PrefillTarget, received: Received) -> None:
        self.prefill_cluster, self.prefill_instance = target.cluster, target.instance_id
        self.received = received
        self.bytes_again = received.bytes_again
        self.tokens_computed = received.manifest.tokens_computed
        self.tokens_reused = received.manifest.tokens_reused
        self.tokens_held = received.manifest.held_tokens
        self.queue_ms += received.manifest.queue_ms
        self.prefill_ms = received.manifest.prefill_ms
        self.tokens_fetched, self.fetched_from = received.manifest.tokens_fetched, received.manifest.fetched_from

    def account(self) -> pb.Account:
        received = self.received
        return pb.Account(
            prefill_cluster=self.prefill_cluster,
            prefill_instance=self.prefill_instance,
            tokens_computed=self.tokens_computed,
            tokens_reused=self.tokens_reused,
            tokens_held=self.tokens_held,
            kv_bytes_raw=received.bytes_raw if received else 0,
            kv_bytes_wire=received.bytes_wire if received else 0,
            kv_bytes_again=self.bytes_again,
            kv_codec="+".join(CODEC_NAMES[c] for c in sorted(received.codecs if received else ())) or "none",
            transfer_ms=received.transfer_s * 1e3 if received else 0.0,
            decode_cluster=self.identity.cluster,
            decode_instance=self.identity.instance_id,
            queue_ms=self.queue_ms,
            prefill_ms=self.prefill_ms,
            fallback=self.fallback,
            tokens_verified=self.tokens_verified,
            tokens_fetched=self.tokens_fetched,
            fetched_from=self.fetched_from,
        )


class DecodeService:
    """Runs the requests of `Instance.Attend`."""

    def __init__(
        self,
        identity: Identity,
        front: Front,
        fetcher: Fetcher,
        fetches: PrefixFetches,
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._front = front
        self._fetcher = fetcher
        self._fetches = fetches
        self._metrics = metrics
        self._clock = clock
        self._streaming: dict[str, RequestStream] = {}

    def cancel(self, request_id: str) -> bool:
        """Ends a request that has its first token, so that its caller still gets the account; False for any other."""
        stream = self._streaming.get(request_id)
        if stream is not None:
            stream.interrupt()
        return stream is not None

    async def generate(self, message: pb.GenerateRequest, answer: Answer) -> None:
        """Puts tokens into `answer`, and at the end either `finished` with the account or `failed`."""
        code = "cancelled"
        try:
            await self._run(self._checked(message), message, answer)
            code = "ok"
        except PrfaasError as error:
            code = error.code
            answer.failed(error)
        finally:
            self._metrics.requests.labels("decode", code).inc()

    def _checked(self, message: pb.GenerateRequest) -> Request:
        if not (math.isfinite(message.deadline_s) and message.deadline_s >= 0):
            # A timer that compares with nothing would put the event loop's other timers out of order.
            raise RequestError(f"deadline_s is {message.deadline_s}; it must be a number from 0 on")
        request = request_from_pb(message)
        self._identity.check_tokens(request.prompt_token_ids)
        limit = self._identity.max_context_tokens
        if request.prompt_tokens + request.sampling.max_tokens > limit:
            raise ContextLengthError(
                f"{request.prompt_tokens} prompt tokens and {request.sampling.max_tokens} to generate exceed "
                f"the context of {limit} tokens"
            )
        return request

    async def _run(self, request: Request, message: pb.GenerateRequest, answer: Answer) -> None:
        target = message.prefill if message.HasField("prefill") else None
        if target and target.instance_id == self._identity.instance_id:
            target = None
        journal = _Journal(self._identity)
        due_s = self._clock() + message.deadline_s if message.deadline_s else None
        with contextlib.ExitStack() as held:
            async with _deadline(message.deadline_s):
                if target is None:
                    journal.fetched = await self._fetches.wait(request.request_id)
                stream = self._front.open(request, Mode.IMPORT if target else Mode.SERVE)
                held.callback(stream.close)
                admitted = await _expect_admitted(stream)
                journal.queue_ms = admitted.queue_s * 1e3
                if target:
                    await self._import(request, stream, admitted, target, due_s, journal)
                first = await self._first_token(request, stream, journal)
            self._streaming[request.request_id] = stream
            held.callback(self._streaming.pop, request.request_id, None)
            try:
                await stream.follow(first, lambda token: _tell(answer, token, journal))
            except CancelledError:
                answer.finished(FinishReason.CANCELLED, journal.account())

    async def _import(
        self,
        request: Request,
        stream: RequestStream,
        admitted: Admitted,
        target: pb.PrefillTarget,
        due_s: float | None,
        journal: _Journal,
    ) -> None:
        """Begins to decode on the transferred KV, or computes here what did not come of it.

        What came, verified, is not computed again, in models whose layers all keep their KV in pages: linear states
        and rings of windows come at a transfer's end, and KV without them is of no use.
        """
        outcome = await self._fetcher.fetch(request, admitted, target, due_s)
        if isinstance(outcome, Received):
            journal.imported(target, outcome)
            first = outcome.manifest.first_token_id
            assert first is not None, "no manifest without one commits, where a prefill was asked for"
            self._front.send(BeginDecode(stream.request_id, first, outcome.lossy))
        else:
            self._fall_back(request, stream, target, outcome, journal)

    def _fall_back(
        self,
        request: Request,
        stream: RequestStream,
        target: pb.PrefillTarget,
        undelivered: Undelivered,
        journal: _Journal,
    ) -> None:
        error = undelivered.error
        log.warning(
            "request %s: prefill on %s failed (%s: %s) when %d of %d tokens had come; prefilling here",
            request.request_id,
            target.instance_id,
            error.code,
            error,
            undelivered.verified_tokens,
            request.prompt_tokens,
        )
        self._metrics.fallbacks.labels(error.code).inc()
        journal.fallback, journal.bytes_again = error.code, undelivered.bytes_again
        self._front.send(PrefillHere(stream.request_id, undelivered.verified_tokens, undelivered.lossy))

    async def _first_token(self, request: Request, stream: RequestStream, journal: _Journal) -> Generated:
        while True:
            event = await stream.next()
            if isinstance(event, Prefilled):
                journal.local(request, event)
                self._metrics.verified_tokens.inc(event.tokens_verified)
            if isinstance(event, Generated):
                return event


def _tell(answer: Answer, token: Generated, journal: _Journal) -> None:
    """The last token and the end leave together: a router that has one without the other would have the answer go on
    elsewhere, behind its end."""
    answer.token(token.token_id, token.logprobs)
    if token.finish is not None:
        answer.finished(token.finish, journal.account())


async def _expect_admitted(stream: RequestStream) -> Admitted:
    event = await stream.next()
    assert isinstance(event, Admitted)
    return event


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Raises DeadlineError if the body takes longer; 0 means no limit."""
    try:
        async with asyncio.timeout(seconds or None):
            yield
    except TimeoutError:
        raise DeadlineError(f"no first token within {seconds:g} s") from None
