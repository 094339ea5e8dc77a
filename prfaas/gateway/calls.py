"""Calls to instances: one `Generate` attempt at a time, and announcements and cancellations that nobody waits for."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine

import grpc

from prfaas.control.convert import from_rpc_error, sampling_to_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import DeadlineError, PeerLostError, PrfaasError
from prfaas.core.request import Request
from prfaas.policy.view import InstanceView, Placement
from prfaas.telemetry.metrics import RouterMetrics

UNAWAITED_TIMEOUT_S = 2.0
DEADLINE_GRACE_S = 5.0
"""The decode instance watches the deadline itself; the router's own limit only catches one that hangs."""
TOKEN_GAP_S = 120.0
"""No step of an engine, prefills of others included, takes so long."""
ACCOUNT_WAIT_S = 0.5
"""How long the end of an answer may wait for the account of a request that was stopped early."""

log = logging.getLogger(__name__)


class GenerateCall:
    """One attempt at a request on one decode instance."""

    def __init__(
        self, channel: grpc.aio.Channel, instance: InstanceView, message: pb.GenerateRequest, on_end: Callable[[], None]
    ) -> None:
        self._stub = InstanceStub(channel)
        self.request_id = message.request_id
        self._deadline_s = message.deadline_s
        self._heard = False
        self._on_end: Callable[[], None] | None = on_end
        self.instance = instance
        self._call = self._stub.Generate(message)

    async def read(self) -> pb.GenerateEvent:
        """The next event. Raises a PrfaasError where the call failed, or ended without its last event.

        DeadlineError where the instance lets the request's deadline pass in silence, or `TOKEN_GAP_S` after its first
        event: a process can live, and answer pings, while its engine hangs.
        """
        patience_s = TOKEN_GAP_S if self._heard else self._deadline_s + DEADLINE_GRACE_S
        try:
            async with asyncio.timeout(patience_s):
                event = await self._read()
        except TimeoutError:
            raise DeadlineError(
                f"{self.instance.instance_id} sent neither a token nor an error within {patience_s:g} s"
            ) from None
        self._heard = True
        return event

    async def _read(self) -> pb.GenerateEvent:
        peer = self.instance.instance_id
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, peer) from error
        except asyncio.CancelledError as error:
            # gRPC raises this also where the *peer* cancelled the call; only our own cancellation may pass.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise from_rpc_error(error, peer) from error
        if not isinstance(event, pb.GenerateEvent):
            raise PeerLostError(f"{peer} ended the call without saying how the request ended")
        return event

    async def stop(self) -> pb.Account | None:
        """Ends the request early and returns its account, or None if that does not come at once."""
        try:
            async with asyncio.timeout(ACCOUNT_WAIT_S):
                await self._stub.Cancel(pb.CancelRequest(request_id=self.request_id))
                while not (event := await self.read()).HasField("finished"):
                    if event.HasField("failure"):
                        return None
                return event.finished.account
        except (TimeoutError, grpc.aio.AioRpcError, PrfaasError) as error:
            log.debug("request %s: no account after an early stop: %r", self.request_id, error)
            return None
        finally:
            self.end()

    def end(self) -> None:
        """Gives the stream back; once is enough, more does no harm."""
        self._call.cancel()
        if self._on_end:
            self._on_end()
            self._on_end = None


class InstanceCalls:
    """Opens calls to instances over the dialer's channels."""

    def __init__(self, dialer: Dialer, metrics: RouterMetrics) -> None:
        self._dialer = dialer
        self._metrics = metrics
        self._in_use: Counter[str] = Counter()
        self._unawaited: set[asyncio.Task[None]] = set()

    def generate(self, request: Request, placement: Placement, deadline_s: float) -> GenerateCall:
        """Starts a request on the decode instance of `placement`; the first token is due in `deadline_s`."""
        message = pb.GenerateRequest(
            request_id=request.request_id,
            prompt_token_ids=request.prompt_token_ids,
            sampling=sampling_to_pb(request.sampling),
            prefill=_target(placement),
            deadline_s=deadline_s,
            cache_salt=request.cache_salt,
        )
        address = placement.decode.control_address
        self._in_use[address] += 1
        return GenerateCall(self._channel(placement.decode), placement.decode, message, lambda: self._release(address))

    def cancel_soon(self, call: GenerateCall) -> None:
        """Tells the instance to forget a request, best effort: closing the stream alone can get lost on the way."""
        self._soon(call.instance, self._cancel(call.instance, call.request_id))

    def announce_soon(self, instance: InstanceView, message: pb.AnnounceRequest) -> None:
        """Tells the instance what will be asked of it, best effort; a failure is counted."""
        # The call begins now, not with the task: what is sent after it must not come before it.
        call = InstanceStub(self._channel(instance)).Announce(message, timeout=UNAWAITED_TIMEOUT_S)
        self._soon(instance, self._announce(instance, message.request_id, call))

    async def prune(self, addresses: frozenset[str]) -> None:
        """Closes idle channels to instances that are no longer among `addresses`."""
        for address in [a for a, calls in self._in_use.items() if calls == 0 and a not in addresses]:
            del self._in_use[address]
            await self._dialer.forget(address)

    async def close(self) -> None:
        """Waits for what nobody else waits for; each such call is bounded by `UNAWAITED_TIMEOUT_S`."""
        await asyncio.gather(*self._unawaited, return_exceptions=True)

    def _channel(self, instance: InstanceView) -> grpc.aio.Channel:
        return self._dialer.channel(instance.control_address, instance.cluster)

    def _release(self, address: str) -> None:
        self._in_use[address] -= 1

    def _soon(self, instance: InstanceView, call: Coroutine[None, None, None]) -> None:
        self._in_use[instance.control_address] += 1
        task = asyncio.create_task(call)
        self._unawaited.add(task)
        task.add_done_callback(self._unawaited.discard)

    async def _announce(self, instance: InstanceView, request_id: str, call: Awaitable[pb.AnnounceReply]) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, instance.instance_id)
            self._metrics.announce_failures.labels(failure.code).inc()
            log.debug("request %s: not announced: %s", request_id, failure)
        finally:
            self._release(instance.control_address)

    async def _cancel(self, instance: InstanceView, request_id: str) -> None:
        try:
            stub = InstanceStub(self._channel(instance))
            await stub.Cancel(pb.CancelRequest(request_id=request_id), timeout=UNAWAITED_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("request %s: cancel did not reach %s: %s", request_id, instance.instance_id, error.details())
        finally:
            self._release(instance.control_address)


def _target(placement: Placement) -> pb.PrefillTarget | None:
    prefill = placement.prefill
    if prefill is None:
        return None
    return pb.PrefillTarget(
        instance_id=prefill.instance_id, cluster=prefill.cluster, control_address=prefill.control_address
    )
