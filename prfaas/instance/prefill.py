"""Prefill for another instance: compute the prompt, stream the KV that it lacks to its address, free it on arrival.

Or lend it a prefix: all of it is cached here, or the call fails at once.
"""

import asyncio
import hmac
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from prfaas.config.sections import MAX_FRAME_BYTES, checked_address
from prfaas.control.convert import failure_to_pb, request_from_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import CancelledError, ManifestError, PeerLostError, PrfaasError, TicketError
from prfaas.core.ids import SECRET_BYTES, TRANSFER_ID_BYTES, TransferId
from prfaas.core.request import Request
from prfaas.engine.memory import CacheMemory
from prfaas.instance.front import Front
from prfaas.instance.identity import Identity
from prfaas.instance.kv import KvExport
from prfaas.instance.kv_encoding import Encodings
from prfaas.instance.late_peer import LatePeer
from prfaas.instance.prefill_run import PrefillRun
from prfaas.instance.prefix_fetch import PrefixFetches
from prfaas.instance.stream import RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.wire.messages import Open

log = logging.getLogger(__name__)

KEEPALIVE_S = 1.0
"""At least so often the caller hears whether we get on."""
REMEMBERED = 1024
"""Ended runs whose callers may not have heard of the end."""

RunId = tuple[bytes, int]
"""Transfer id and epoch."""


class PrefillService:
    """Serves `Instance.Prefill`: a ticket's first call begins a run, later ones attach to it."""

    def __init__(
        self,
        identity: Identity,
        front: Front,
        memory: CacheMemory,
        outbox: Outbox,
        dialer: Dialer,
        encodings: Encodings,
        fetches: PrefixFetches,
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._front = front
        self._memory = memory
        self._outbox = outbox
        self._dialer = dialer
        self._encodings = encodings
        self._fetches = fetches
        self._metrics = metrics
        self._clock = clock
        self._running: dict[RunId, PrefillRun] = {}
        self._ended: OrderedDict[RunId, tuple[bytes, pb.PrefillEvent]] = OrderedDict()
        """Secret and last word of each."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        return len(self._running)

    def knows(self, message: pb.PrefillRequest) -> bool:
        """The call asks for nothing new."""
        return _run_id(message.ticket) in self._running or _run_id(message.ticket) in self._ended

    async def finished(self) -> None:
        """Returns once nothing runs."""
        await self._idle.wait()

    def cancel(self, request_id: str, transfer_id: bytes) -> bool:
        """Ends what runs for a request, or with `transfer_id` only that; False if nothing does."""
        found = [
            run
            for (ticket_id, _), run in self._running.items()
            if run.request_id == request_id and transfer_id in (b"", ticket_id)
        ]
        for run in found:
            run.abandon(CancelledError("the request was cancelled"))
        return bool(found)

    def cut(self) -> None:
        """Ends all that runs."""
        for run in list(self._running.values()):
            run.abandon(CancelledError("the request was cancelled"))

    async def prefill(self, message: pb.PrefillRequest) -> AsyncGenerator[pb.PrefillEvent, None]:
        """Progress, and at the end either `done` (the receiver has committed) or `failure`."""
        try:
            run = self._find(message)
        except PrfaasError as error:
            self._metrics.requests.labels(_kind(message), error.code).inc()
            yield pb.PrefillEvent(failure=failure_to_pb(error))
            return
        if isinstance(run, pb.PrefillEvent):
            yield run
            return
        keepalive_s = min(KEEPALIVE_S, self._identity.transport.stall_s / 4)
        async with aclosing(run.progress(self._moved, keepalive_s)) as events:
            async for event in events:
                yield event
        yield run.result()

    def _find(self, message: pb.PrefillRequest) -> PrefillRun | pb.PrefillEvent:
        """The ticket's run, begun now or before, or how it ended. Raises what keeps it from being begun."""
        run_id, secret = _run_id(message.ticket), bytes(message.ticket.secret)
        if (run := self._running.get(run_id)) is not None:
            _check_secret(run.secret, secret)
            return run
        if (ended := self._ended.get(run_id)) is not None:
            _check_secret(ended[0], secret)
            return ended[1]
        if message.resume:
            name = self._identity.instance_id
            raise PeerLostError(f"{name} knows nothing of this prefill; it has restarted, or ended it long ago")
        return self._begin(message)

    def _begin(self, message: pb.PrefillRequest) -> PrefillRun:
        request = self._checked(message)
        ended: asyncio.Future[PrfaasError | None] = asyncio.get_running_loop().create_future()
        transfer = self._transfer(message.ticket, request, ended)
        export = self._export(message, transfer)
        submit = partial(self._lend if message.cached_only else self._submit, request, export)
        patience_s = self._identity.transport.stall_s
        run = PrefillRun(request.request_id, _kind(message), transfer, submit, export, ended, patience_s=patience_s)
        run_id = _run_id(message.ticket)
        self._running[run_id] = run
        self._idle.clear()
        ended.add_done_callback(lambda _: self._end(run_id))
        return run

    async def _submit(self, request: Request, export: KvExport) -> RequestStream:
        # What is on its way here from another instance's cache need not be computed.
        export.fetched = await self._fetches.wait(request.request_id)
        return self._front.open(request, Mode.EXPORT, export.take)

    async def _lend(self, request: Request, export: KvExport) -> RequestStream:
        return self._front.lend(request, export.take)

    def _end(self, run_id: RunId) -> None:
        run = self._running.pop(run_id)
        self._ended[run_id] = run.secret, run.result()
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        error = run.ended.result()
        self._metrics.requests.labels(run.kind, error.code if error else "ok").inc()
        if not self._running:
            self._idle.set()

    def _checked(self, message: pb.PrefillRequest) -> Request:
        ticket = message.ticket
        if message.model_fingerprint != self._identity.model_fingerprint:
            raise ManifestError(
                f"{self._identity.instance_id} serves model {self._identity.model_fingerprint}, the caller "
                f"{message.model_fingerprint}; their KV is not interchangeable"
            )
        if len(ticket.transfer_id) != TRANSFER_ID_BYTES or len(ticket.secret) != SECRET_BYTES:
            raise TicketError("a ticket needs a transfer id and a secret of 16 bytes each")
        if 0 < ticket.max_frame_bytes < self._identity.shape.largest_row_bytes:
            raise TicketError(
                f"the receiver takes frames of {ticket.max_frame_bytes} bytes, the model's largest indivisible piece "
                f"has {self._identity.shape.largest_row_bytes}; raise transport.frame_bytes there"
            )
        try:
            checked_address(ticket.data_address)
        except ValueError as error:
            raise TicketError(f"the ticket's data address: {error}") from None
        request = request_from_pb(message)
        self._identity.check_tokens(request.prompt_token_ids)
        if ticket.held_tokens > request.prompt_tokens:
            raise TicketError(
                f"the receiver claims to hold {ticket.held_tokens} tokens of a prompt of {request.prompt_tokens}"
            )
        return request

    def _transfer(
        self, ticket: pb.Ticket, request: Request, ended: "asyncio.Future[PrfaasError | None]"
    ) -> OutgoingTransfer:
        loop = asyncio.get_running_loop()

        def settle(error: PrfaasError | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def on_done(error: PrfaasError | None) -> None:
            self._metrics.transfers.labels("out", error.code if error else "ok").inc()
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        opening = Open(
            bytes(ticket.secret),
            self._identity.model_fingerprint,
            request.prompt_tokens,
            ticket.held_tokens,
            self._identity.kv_dtype,
        )
        deadline_s = self._clock() + ticket.deadline_s if ticket.deadline_s > 0 else float("inf")
        return OutgoingTransfer(TransferId(bytes(ticket.transfer_id)), ticket.epoch, opening, on_done, deadline_s)

    def _export(self, message: pb.PrefillRequest, transfer: OutgoingTransfer) -> KvExport:
        ticket = message.ticket
        proxy = self._dialer.proxy_to(ticket.receiver_cluster)
        start = partial(self._outbox.start, ticket.data_address, proxy, ticket.receiver_cluster, transfer)
        # The connections come up while the prompt waits its turn; what is cached, or is not, waits for none.
        peer = LatePeer(start) if message.cached_only else start()
        return KvExport(
            self._identity.shape,
            self._memory,
            peer,
            transfer,
            self._encodings.to(ticket.receiver_cluster, ticket.codecs),
            frame_bytes=min(self._identity.transport.frame_bytes, ticket.max_frame_bytes or MAX_FRAME_BYTES),
        )

    def _moved(self) -> tuple[int, ...]:
        """Grows whenever this instance computes, sends or receives anything."""
        return self._front.stats.layers_computed, self._outbox.bytes_acknowledged(), self._fetches.bytes_arrived


def _kind(message: pb.PrefillRequest) -> str:
    return "lend" if message.cached_only else "prefill"


def _check_secret(expected: bytes, shown: bytes) -> None:
    if not hmac.compare_digest(expected, shown):
        raise TicketError("another call has this transfer id already, and the secret is not its ticket's")


def _run_id(ticket: pb.Ticket) -> RunId:
    return bytes(ticket.transfer_id), ticket.epoch
