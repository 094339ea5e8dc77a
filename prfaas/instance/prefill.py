"""Prefill for another instance: compute the prompt, stream the KV that it lacks to its address, free it on arrival."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

from prfaas.config.sections import MAX_FRAME_BYTES, checked_address
from prfaas.control.convert import failure_to_pb, request_from_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import CancelledError, ManifestError, PrfaasError, TicketError
from prfaas.core.ids import SECRET_BYTES, TRANSFER_ID_BYTES, TransferId
from prfaas.core.request import Request
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Progressed
from prfaas.instance.front import Front
from prfaas.instance.identity import Identity
from prfaas.instance.kv import KvExport
from prfaas.instance.stream import RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.wire.messages import Open

log = logging.getLogger(__name__)

KEEPALIVE_S = 1.0
"""At least so often the caller hears whether we get on."""


class PrefillService:
    """Serves `Instance.Prefill`."""

    def __init__(
        self,
        identity: Identity,
        front: Front,
        memory: CacheMemory,
        outbox: Outbox,
        dialer: Dialer,
        metrics: InstanceMetrics,
    ) -> None:
        self._identity = identity
        self._front = front
        self._memory = memory
        self._outbox = outbox
        self._dialer = dialer
        self._metrics = metrics

    async def prefill(self, message: pb.PrefillRequest) -> AsyncGenerator[pb.PrefillEvent, None]:
        """Progress, and at the end either `done` (the receiver has committed) or `failure`."""
        try:
            request = self._checked(message)
        except PrfaasError as error:
            self._metrics.requests.labels("prefill", error.code).inc()
            yield pb.PrefillEvent(failure=failure_to_pb(error))
            return
        ended: asyncio.Future[PrfaasError | None] = asyncio.get_running_loop().create_future()
        export = self._export(message, request, ended)
        try:
            stream = self._front.open(request, Mode.EXPORT, export.take)
        except PrfaasError as error:
            export.abandon(error)
            yield pb.PrefillEvent(failure=failure_to_pb(error))
            return
        # The end of the transfer, and nothing else, frees the request's memory: until then a sender may be reading it.
        ended.add_done_callback(lambda _: stream.release())
        try:
            async with contextlib.aclosing(self._progress(stream, export, ended)) as events:
                async for event in events:
                    yield event
            refusal = ended.result()
            self._metrics.requests.labels("prefill", refusal.code if refusal else "ok").inc()
            yield pb.PrefillEvent(failure=failure_to_pb(refusal)) if refusal else self._done(export)
        finally:
            stream.detach()
            export.abandon(CancelledError("the prefill call ended before its transfer did"))

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

    def _export(
        self, message: pb.PrefillRequest, request: Request, ended: asyncio.Future[PrfaasError | None]
    ) -> KvExport:
        ticket = message.ticket
        loop = asyncio.get_running_loop()

        def settle(error: PrfaasError | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def on_done(error: PrfaasError | None) -> None:
            self._metrics.transfers.labels("out", error.code if error else "ok").inc()
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        fingerprint = self._identity.model_fingerprint
        opening = Open(bytes(ticket.secret), fingerprint, request.prompt_tokens, ticket.held_tokens)
        transfer = OutgoingTransfer(TransferId(bytes(ticket.transfer_id)), ticket.epoch, opening, on_done)
        # The connection comes up while the prompt waits its turn.
        proxy = self._dialer.proxy_to(ticket.receiver_cluster)
        peer = self._outbox.start(ticket.data_address, proxy, transfer)
        return KvExport(
            self._identity.shape,
            self._memory,
            peer,
            transfer,
            frame_bytes=min(self._identity.transport.frame_bytes, ticket.max_frame_bytes or MAX_FRAME_BYTES),
        )

    async def _progress(
        self, stream: RequestStream, export: KvExport, ended: asyncio.Future[PrfaasError | None]
    ) -> AsyncGenerator[pb.PrefillEvent, None]:
        """Until the transfer has ended; an engine failure ends it."""
        tokens_done = 0
        moved = self._moved()
        keepalive_s = min(KEEPALIVE_S, self._identity.transport.stall_s / 4)
        reading = asyncio.ensure_future(stream.next())
        try:
            while not ended.done():
                waited: set[asyncio.Future[Any]] = {reading, ended}
                await asyncio.wait(waited, timeout=keepalive_s, return_when=asyncio.FIRST_COMPLETED)
                if reading.done() and not ended.done():
                    try:
                        event = reading.result()
                    except PrfaasError as error:
                        export.abandon(error)
                        await ended
                        return
                    tokens_done = event.tokens_done if isinstance(event, Progressed) else tokens_done
                    reading = asyncio.ensure_future(stream.next())
                before, moved = moved, self._moved()
                progress = pb.PrefillProgress(tokens_done=tokens_done, moving=moved != before)
                yield pb.PrefillEvent(progress=progress)
        finally:
            reading.cancel()

    def _moved(self) -> tuple[int, int]:
        """Grows whenever this instance computes or sends anything."""
        return self._front.stats.layers_computed, self._outbox.bytes_acknowledged()

    def _done(self, export: KvExport) -> pb.PrefillEvent:
        assert export.summary is not None
        return pb.PrefillEvent(
            done=pb.PrefillDone(
                tokens_computed=export.summary.tokens_computed,
                tokens_reused=export.summary.tokens_reused,
                queue_ms=export.summary.queue_ms,
                prefill_ms=export.summary.prefill_ms,
                kv_bytes_raw=export.bytes_raw,
                kv_bytes_wire=export.bytes_wire,
            )
        )
