"""How a decode instance gets the KV that it lacks: give out a ticket, call a prefill instance, wait for the commit."""

import asyncio
import logging

import grpc

from prfaas.control.convert import failure_from_pb, from_rpc_error, sampling_to_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.clock import Clock
from prfaas.core.errors import CancelledError, DeadlineError, ManifestError, PeerLostError, PrfaasError
from prfaas.core.ids import TransferId, new_secret, new_transfer_id
from prfaas.core.request import Request
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted
from prfaas.instance.identity import Identity
from prfaas.instance.kv import KvImport
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.inbox import Inbox, IncomingTransfer, Outcome, Received
from prfaas.wire.header import CODEC_NAMES, Codec
from prfaas.wire.session import Expectation, ReceiveSession

log = logging.getLogger(__name__)


class Fetcher:
    """Runs one transfer per call; holds nothing between calls but prefill calls that are saying goodbye."""

    def __init__(
        self,
        identity: Identity,
        inbox: Inbox,
        memory: CacheMemory,
        dialer: Dialer,
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._inbox = inbox
        self._memory = memory
        self._dialer = dialer
        self._metrics = metrics
        self._clock = clock
        self._calls: set[asyncio.Task[None]] = set()

    async def fetch(self, request: Request, admitted: Admitted, target: pb.PrefillTarget) -> Received:
        """The committed transfer. Raises a PrfaasError when there is none; by then no byte can arrive any more."""
        attempt = _Attempt(self._clock)
        ticket = self._ticket(admitted.held_tokens)
        secret, transfer_id = bytes(ticket.secret), TransferId(bytes(ticket.transfer_id))
        expectation = Expectation(
            self._identity.shape,
            self._identity.model_fingerprint,
            request.prompt_tokens,
            secret,
            admitted.held_tokens,
        )
        destination = KvImport(self._memory, admitted.pages, admitted.state_pages)
        transfer = self._inbox.expect(
            transfer_id, ticket.epoch, ReceiveSession(expectation), destination, attempt.end_from_thread
        )
        call = asyncio.create_task(self._call(request, ticket, target, attempt))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            received = await self._wait(attempt, transfer)
        except BaseException:
            call.cancel()
            raise
        finally:
            self._inbox.close(transfer_id, ticket.epoch, CancelledError("the decode instance gave the transfer up"))
        self._metrics.transfers.labels("in", "ok").inc()
        return received

    def _ticket(self, held_tokens: int) -> pb.Ticket:
        return pb.Ticket(
            transfer_id=new_transfer_id(),
            epoch=self._identity.epoch,
            secret=new_secret(),
            data_address=self._identity.data_address,
            receiver_instance=self._identity.instance_id,
            receiver_cluster=self._identity.cluster,
            codec=CODEC_NAMES[Codec.RAW],
            max_frame_bytes=self._identity.transport.frame_bytes,
            held_tokens=held_tokens,
        )

    async def _call(self, request: Request, ticket: pb.Ticket, target: pb.PrefillTarget, attempt: "_Attempt") -> None:
        """Follows the prefill call to its end, which comes one round trip after our commit."""
        stub = InstanceStub(self._dialer.channel(target.control_address, target.cluster))
        call = stub.Prefill(
            pb.PrefillRequest(
                request_id=request.request_id,
                prompt_token_ids=request.prompt_token_ids,
                sampling=sampling_to_pb(request.sampling),
                ticket=ticket,
                model_fingerprint=self._identity.model_fingerprint,
                cache_salt=request.cache_salt,
            )
        )
        tokens_done = 0
        try:
            async for event in call:
                if event.WhichOneof("event") == "failure":
                    attempt.end(failure_from_pb(event.failure))
                elif event.progress.moving or event.progress.tokens_done > tokens_done:
                    # A process that says it lives but computes nothing is as good as dead.
                    tokens_done = event.progress.tokens_done
                    attempt.alive()
        except grpc.aio.AioRpcError as error:
            attempt.end(from_rpc_error(error, target.instance_id))
        finally:
            call.cancel()
            # A commit was noted before the prefill instance could hear of it; without one nothing more will come.
            attempt.end(PeerLostError(f"{target.instance_id} ended the prefill call without its KV or an error"))

    async def _wait(self, attempt: "_Attempt", transfer: IncomingTransfer) -> Received:
        stall_s = self._identity.transport.stall_s
        placed = 0
        while not attempt.outcome.done():
            await asyncio.wait({attempt.outcome}, timeout=stall_s / 4)
            if transfer.objects_placed != placed:
                placed = transfer.objects_placed
                attempt.alive()
            if not attempt.outcome.done() and attempt.silent_s() > stall_s:
                attempt.end(DeadlineError(f"nothing was heard of the prefill or its KV for {stall_s:g} s"))
        outcome = attempt.outcome.result()
        if isinstance(outcome, Received) and outcome.manifest.first_token_id >= self._identity.vocab_size:
            outcome = ManifestError(f"the first token, {outcome.manifest.first_token_id}, is not in the vocabulary")
        if isinstance(outcome, PrfaasError):
            self._metrics.transfers.labels("in", outcome.code).inc()
            raise outcome
        return outcome


class _Attempt:
    """The outcome of one transfer, whichever of transport, prefill call and deadline decides it first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._heard = clock()
        self.outcome: asyncio.Future[Outcome] = self._loop.create_future()

    def alive(self) -> None:
        self._heard = self._clock()

    def silent_s(self) -> float:
        return self._clock() - self._heard

    def end(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def end_from_thread(self, outcome: Outcome) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.end, outcome)
