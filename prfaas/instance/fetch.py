"""How an instance gets KV that it lacks: give out a ticket, call whoever has it or computes it, wait for the commit."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

from prfaas.control.convert import sampling_to_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import CancelledError, DeadlineError, ManifestError, PeerLostError, PrfaasError
from prfaas.core.ids import TransferId, new_secret, new_transfer_id
from prfaas.core.request import Request
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted
from prfaas.instance.arrivals import Arrivals
from prfaas.instance.attempt import Attempt
from prfaas.instance.identity import Identity
from prfaas.instance.incoming import Incoming
from prfaas.instance.kv import KvImport
from prfaas.instance.kv_codec import FAMILIES, KvCodec
from prfaas.instance.prefill_call import PrefillCall
from prfaas.policy.transfer_deadline import Tail, too_slow
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.inbox import Inbox, Received
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation

log = logging.getLogger(__name__)


INNOCENT = (PeerLostError, DeadlineError, CancelledError)
"""Ends that say nothing against what came before. A manifest that is wrong or an engine that failed does: it may have
told the digests of KV that is wrong too."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A transfer that did not commit; no byte of it arrives any more."""

    error: PrfaasError
    verified_tokens: int
    """Leading tokens whose KV lies verified in the pages and may be used, those held included; states need not."""
    lossy: bool
    """Part of that was rounded on the way."""
    bytes_again: int
    """Payload that came twice, or corrupt."""


class Fetcher:
    """Runs one transfer per call; keeps between calls what it saw of links, and calls that are saying goodbye."""

    def __init__(
        self,
        identity: Identity,
        inbox: Inbox,
        memory: CacheMemory,
        dialer: Dialer,
        metrics: InstanceMetrics,
        clock: Clock,
        prefill_s: Callable[[int], float | None],
        codec: KvCodec | None,
    ) -> None:
        """`prefill_s`: what a prompt of so many tokens would take here; None while nobody knows. `codec`: None where
        nothing but raw can be decoded."""
        self._identity = identity
        self._inbox = inbox
        self._memory = memory
        self._dialer = dialer
        self._metrics = metrics
        self._clock = clock
        self._prefill_s = prefill_s
        self._codec = codec
        self._arrivals: dict[str, Arrivals] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()

    @property
    def bytes_arrived(self) -> int:
        """In all transfers ever; it grows while anything comes."""
        return sum(arrivals.total_bytes for arrivals in self._arrivals.values())

    async def fetch(
        self,
        request: Request,
        admitted: Admitted,
        target: pb.PrefillTarget,
        deadline_s: float | None,
        *,
        cached_only: bool = False,
    ) -> Received | Undelivered:
        """`deadline_s`: on our clock, until when the first token is due; None: whenever it comes. `cached_only`: the
        prompt is a prefix that `target` is to have cached, and computes nothing for.

        When it returns, or is cancelled, no byte can arrive any more.
        """
        attempt = Attempt(self._clock)
        ticket = self._ticket(admitted.held_tokens, deadline_s)
        transfer_id = TransferId(bytes(ticket.transfer_id))
        session = ReceiveSession(self._expectation(request, ticket, cached_only=cached_only))
        shape = self._identity.shape
        destination = KvImport(shape, self._memory, admitted.pages, admitted.state_pages, self._codec)
        transfer = self._inbox.expect(transfer_id, ticket.epoch, session, destination, attempt.end_from_thread)
        incoming = Incoming(transfer, session, attempt)
        call = self._call(request, ticket, target, attempt, cached_only=cached_only)
        following = self._spawn(call.follow())
        outcome: Received | PrfaasError = CancelledError("the receiver gave the transfer up")
        try:
            # Whoever waits for a prefill waits for its prefix first, and must not take our silence for death.
            silence_s = self._identity.transport.stall_s / (2 if cached_only else 1)
            outcome = await self._wait(incoming, call, request, self._link(target.cluster), deadline_s, silence_s)
        finally:
            # Whatever it was, from here on nothing is written into the pages.
            self._inbox.close(transfer_id, ticket.epoch, CancelledError("the receiver gave the transfer up"))
            if not isinstance(outcome, Received):
                following.cancel()
                self._spawn(call.cancel())
                self._metrics.transfers.labels("in", outcome.code).inc()
        if isinstance(outcome, PrfaasError):
            usable = transfer.verified_tokens() if isinstance(outcome, INNOCENT) else 0
            return Undelivered(outcome, usable, session.lossy, session.bytes_again)
        self._metrics.transfers.labels("in", "ok").inc()
        self._link(target.cluster).committed(outcome.bytes_wire, outcome.transfer_s)
        return outcome

    def _ticket(self, held_tokens: int, deadline_s: float | None) -> pb.Ticket:
        return pb.Ticket(
            transfer_id=new_transfer_id(),
            epoch=self._identity.epoch,
            secret=new_secret(),
            data_address=self._identity.data_address,
            receiver_instance=self._identity.instance_id,
            receiver_cluster=self._identity.cluster,
            max_frame_bytes=self._identity.transport.frame_bytes,
            held_tokens=held_tokens,
            codecs=sorted(self._identity.codecs),
            # 0 would mean that there is no hurry.
            deadline_s=0.0 if deadline_s is None else max(1e-3, deadline_s - self._clock()),
        )

    def _expectation(self, request: Request, ticket: pb.Ticket, *, cached_only: bool) -> Expectation:
        return Expectation(
            self._identity.shape,
            self._identity.sent_shapes,
            self._identity.model_fingerprint,
            request.prompt_tokens,
            bytes(ticket.secret),
            ticket.held_tokens,
            frozenset().union(*(FAMILIES[name] for name in self._identity.codecs)),
            cached_only,
        )

    def _call(
        self, request: Request, ticket: pb.Ticket, target: pb.PrefillTarget, attempt: Attempt, *, cached_only: bool
    ) -> PrefillCall:
        def channel() -> grpc.aio.Channel:
            return self._dialer.channel(target.control_address, target.cluster)

        message = pb.PrefillRequest(
            request_id=request.request_id,
            prompt_token_ids=request.prompt_token_ids,
            sampling=sampling_to_pb(request.sampling),
            ticket=ticket,
            model_fingerprint=self._identity.model_fingerprint,
            cache_salt=request.cache_salt,
            cached_only=cached_only,
        )
        return PrefillCall(channel, target, message, attempt)

    async def _wait(
        self,
        incoming: Incoming,
        call: PrefillCall,
        request: Request,
        arrivals: Arrivals,
        deadline_s: float | None,
        silence_s: float,
    ) -> Received | PrfaasError:
        attempt = incoming.attempt
        arrived = 0
        arrivals.begin(incoming)
        try:
            while not attempt.outcome.done():
                await asyncio.wait({attempt.outcome}, timeout=silence_s / 16)
                arrivals.sample(self._clock())
                if incoming.bytes_arrived != arrived:
                    arrived = incoming.bytes_arrived
                    attempt.alive()
                if attempt.silent_s() > silence_s:
                    attempt.end(_silence(call.broken, silence_s))
                # While the call is broken the sender may be gone, which is no slowness: silence decides, or a refusal.
                elif call.broken is None and (trouble := self._too_slow(attempt, arrivals, request, deadline_s)):
                    attempt.end(DeadlineError(trouble))
        finally:
            arrivals.end(incoming)
        outcome = attempt.outcome.result()
        first = outcome.manifest.first_token_id if isinstance(outcome, Received) else None
        if first is not None and first >= self._identity.vocab_size:
            return ManifestError(f"the first token, {first}, is not in the vocabulary")
        return outcome

    def _too_slow(self, attempt: Attempt, arrivals: Arrivals, request: Request, deadline_s: float | None) -> str | None:
        if attempt.prefilled_s is None or (rate := arrivals.rate_bytes_s(attempt.prefilled_s)) is None:
            return None
        due_s = None if deadline_s is None else deadline_s - self._clock()
        local_s = self._prefill_s(request.prompt_tokens)
        tail = Tail(arrivals.missing_bytes, rate, arrivals.best_bytes_s, due_s, local_s)
        return too_slow(tail, self._identity.transport.stall_s)

    def _link(self, cluster: str) -> Arrivals:
        if cluster not in self._arrivals:
            # Long enough that a lost packet's timeout does not look like the link's rate.
            self._arrivals[cluster] = Arrivals(window_s=self._identity.transport.stall_s / 2)
        return self._arrivals[cluster]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
        return task


def _silence(broken: PrfaasError | None, stall_s: float) -> PrfaasError:
    if broken is not None:
        return PeerLostError(f"{broken}; its KV did not come either, for {stall_s:g} s")
    return DeadlineError(f"nothing was heard of the prefill or its KV for {stall_s:g} s")
