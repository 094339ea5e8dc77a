"""The decode side of `Instance.Prefill`: asks for a prefill, follows it, and asks again when the call breaks.

Knows nothing of the KV, which comes by connections of its own and goes on meanwhile.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import grpc

from prfaas.control.convert import failure_from_pb, from_rpc_error
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import PeerLostError, PrfaasError
from prfaas.instance.attempt import Attempt

log = logging.getLogger(__name__)

BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""The connection went, or the process at its other end; the prefill may go on."""
UNHEARD_CALLS = 3
"""An instance that has not answered any of so many calls is taken for gone."""
REFUSED_CALLS = 5
"""So is one at whose address nothing listens, at so many calls in a row: its process has ended."""
NOTHING_LISTENS = ("Connection refused", "response code 502")
"""How gRPC words it, without and with a CONNECT proxy on the way; it has no code of its own for that."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
CANCEL_TIMEOUT_S = 2.0


class PrefillCall:
    """One ticket's calls, one at a time."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        target: pb.PrefillTarget,
        request: pb.PrefillRequest,
        attempt: Attempt,
    ) -> None:
        """`channel` is asked for at each call: it may have to be another one by then."""
        self._channel = channel
        self._target = target
        self._request = request
        self._attempt = attempt
        self._heard = False
        self._calls = 0
        self._refused_calls = 0
        self._tokens_done = 0
        self.broken: PrfaasError | None = None
        """How the last call broke; None while one holds."""

    async def follow(self) -> None:
        """Returns when the prefill instance has said its last word, which comes one round trip after our commit."""
        while True:
            try:
                await self._once()
            except grpc.aio.AioRpcError as error:
                self.broken = from_rpc_error(error, self._target.instance_id)
                if self._attempt.outcome.done():
                    return
                if self._hopeless(error):
                    self._attempt.end(self.broken)
                    return
                log.info("the prefill call to %s broke and is made again: %s", self._target.instance_id, self.broken)
                await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** (self._calls - 1), LONGEST_PAUSE_S))
                continue
            # A commit was noted before the prefill instance could hear of it; without one nothing more will come.
            name = self._target.instance_id
            self._attempt.end(PeerLostError(f"{name} ended the prefill call without its KV or an error"))
            return

    def _hopeless(self, error: grpc.aio.AioRpcError) -> bool:
        """Another call would not help; `stall_s` of silence is for others to judge."""
        self._calls += 1
        refused = any(words in (error.details() or "") for words in NOTHING_LISTENS)
        self._refused_calls = self._refused_calls + 1 if refused else 0
        unheard = not self._heard and self._calls >= UNHEARD_CALLS
        return error.code() not in BROKEN or unheard or self._refused_calls >= REFUSED_CALLS

    async def cancel(self) -> None:
        """Tells the prefill instance, if it can hear it, that nobody waits for its KV any more."""
        ticket = self._request.ticket
        cancel = pb.CancelRequest(request_id=self._request.request_id, transfer_id=ticket.transfer_id)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await InstanceStub(self._channel()).Cancel(cancel, timeout=CANCEL_TIMEOUT_S)

    async def _once(self) -> None:
        """Raises AioRpcError when the call breaks."""
        self._request.resume = self._heard
        call = InstanceStub(self._channel()).Prefill(self._request)
        try:
            async for event in call:
                self._heard, self._calls, self.broken = True, 0, None
                if event.WhichOneof("event") == "failure":
                    self._attempt.end(failure_from_pb(event.failure))
                else:
                    self._take(event.progress)
        finally:
            call.cancel()

    def _take(self, progress: pb.PrefillProgress) -> None:
        # A process that says it lives but computes nothing is as good as dead.
        if progress.moving or progress.tokens_done > self._tokens_done:
            self._tokens_done = max(self._tokens_done, progress.tokens_done)
            self._attempt.alive()
        if progress.prefilled:
            self._attempt.prefilled()
