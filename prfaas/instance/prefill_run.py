"""One ticket's prefill and transfer, to which callers attach: calls break more easily than the work they ask for.

Knows no gRPC.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

from prfaas.control.convert import failure_to_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import CancelledError, PrfaasError
from prfaas.engine.messages import Progressed
from prfaas.instance.kv import KvExport
from prfaas.instance.stream import RequestStream
from prfaas.transport.outgoing import OutgoingTransfer

log = logging.getLogger(__name__)


class PrefillRun:
    """Ends with its transfer: by the receiver's commit, a failure, or for want of callers."""

    def __init__(
        self,
        request_id: str,
        kind: str,
        transfer: OutgoingTransfer,
        begin: Callable[[], Awaitable[RequestStream]],
        export: KvExport,
        ended: "asyncio.Future[PrfaasError | None]",
        *,
        patience_s: float,
    ) -> None:
        """`begin` submits it to the engine, when it is time. `ended` is set by the transfer's end. `patience_s`: how
        long it goes on without a caller."""
        self.request_id = request_id
        self.kind = kind
        """For people: prefill, or lend."""
        self._transfer = transfer
        self._begin = begin
        self._stream: RequestStream | None = None
        self._export = export
        self._patience_s = patience_s
        self._callers = 0
        self._alone: asyncio.TimerHandle | None = None
        self._tokens_done = 0
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = ended
        self._reading = asyncio.create_task(self._read())
        ended.add_done_callback(self._free)

    @property
    def secret(self) -> bytes:
        """What callers must show."""
        return self._transfer.opening.secret

    def abandon(self, error: PrfaasError) -> None:
        """Ends it soon, unless it has ended."""
        self._export.abandon(error)

    async def progress(
        self, moved: Callable[[], tuple[int, ...]], keepalive_s: float
    ) -> AsyncGenerator[pb.PrefillEvent, None]:
        """What a caller is told until the end, at once and then at every change; `moved` grows with all that is done
        on this instance."""
        before = moved()
        with self._attached():
            while not self.ended.done():
                now = moved()
                progress = pb.PrefillProgress(
                    tokens_done=self._tokens_done, moving=now != before, prefilled=self._export.summary is not None
                )
                yield pb.PrefillEvent(progress=progress)
                before = now
                waited: set[asyncio.Future[Any]] = {self._news, self.ended}
                await asyncio.wait(waited, timeout=keepalive_s, return_when=asyncio.FIRST_COMPLETED)

    def result(self) -> pb.PrefillEvent:
        """The last event, once it has ended."""
        error, summary, session = self.ended.result(), self._export.summary, self._transfer.session
        if error is not None:
            return pb.PrefillEvent(failure=failure_to_pb(error))
        assert summary is not None, "the receiver commits after the manifest, which the summary made"
        return pb.PrefillEvent(
            done=pb.PrefillDone(
                tokens_computed=summary.tokens_computed,
                tokens_reused=summary.tokens_reused,
                queue_ms=summary.queue_ms,
                prefill_ms=summary.prefill_ms,
                kv_bytes_raw=session.bytes_raw,
                kv_bytes_wire=session.bytes_wire,
                tokens_fetched=summary.tokens_fetched,
                fetched_from=summary.fetched_from,
            )
        )

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        self._callers += 1
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None
        try:
            yield
        finally:
            self._callers -= 1
            if not self._callers and not self.ended.done():
                self._alone = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)

    def _give_up(self) -> None:
        log.warning("request %s: its caller has been gone for %g s", self.request_id, self._patience_s)
        self.abandon(CancelledError(f"the prefill call broke and was not made again within {self._patience_s:g} s"))

    async def _read(self) -> None:
        """Until the end; an engine failure ends it."""
        try:
            stream = self._stream = await self._begin()
            while True:
                event = await stream.next()
                if isinstance(event, Progressed):
                    self._tokens_done = event.tokens_done
                news, self._news = self._news, asyncio.get_running_loop().create_future()
                news.set_result(None)
        except PrfaasError as error:
            self.abandon(error)

    def _free(self, _: object) -> None:
        # The end of the transfer, and nothing else, frees the request's memory: until then a sender may be reading it.
        self._reading.cancel()
        if self._alone is not None:
            self._alone.cancel()
        if self._stream is not None:
            self._stream.close()
