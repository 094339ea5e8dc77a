"""Calls to instances: requests on the stream to each, and announcements and cancellations that nobody waits for."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Coroutine

import grpc

from prfaas.control.convert import from_rpc_error, sampling_to_pb
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import PrfaasError
from prfaas.core.request import Request
from prfaas.gateway.attending import Attending
from prfaas.gateway.generate_call import GenerateCall
from prfaas.policy.view import InstanceView, Placement
from prfaas.telemetry.metrics import RouterMetrics

UNAWAITED_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)


class InstanceCalls:
    """Calls over the dialer's channels; the stream to an instance is opened when the first request needs it."""

    def __init__(self, dialer: Dialer, metrics: RouterMetrics) -> None:
        self._dialer = dialer
        self._metrics = metrics
        self._streams: dict[str, Attending] = {}
        self._in_use: Counter[str] = Counter()
        self._unawaited: set[asyncio.Task[None]] = set()

    def generate(
        self,
        request: Request,
        placement: Placement,
        deadline_s: float,
        after: "asyncio.Future[None] | None" = None,
        *,
        whole: bool,
    ) -> GenerateCall:
        """Starts a request on the decode instance of `placement`; the first token is due in `deadline_s`.

        `after`: what the instance must have heard before. `whole`: nobody needs to see tokens before the last one.
        """
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
        stream, decode = self._stream(placement.decode), placement.decode
        return GenerateCall(stream, decode, message, lambda: self._release(address), after, whole=whole)

    def cancel_soon(self, call: GenerateCall) -> None:
        """Tells the instance to forget a request whose stream broke, best effort: only the way there may be gone."""
        if call.lost:
            self._soon(call.instance, self._cancel(call.instance, call.request_id))

    def announce_soon(self, instance: InstanceView, message: pb.AnnounceRequest) -> asyncio.Task[None]:
        """Tells the instance what will be asked of it, best effort; a failure is counted. The task ends with that."""
        # The call begins now, not with the task: what is sent after it must not come before it.
        call = InstanceStub(self._channel(instance)).Announce(message, timeout=UNAWAITED_TIMEOUT_S)
        return self._soon(instance, self._announce(instance, message.request_id, call))

    async def prune(self, addresses: frozenset[str]) -> None:
        """Closes idle streams and channels to instances that are no longer among `addresses`."""
        for address in [a for a, calls in self._in_use.items() if calls == 0 and a not in addresses]:
            del self._in_use[address]
            if stream := self._streams.pop(address, None):
                await stream.close()
            await self._dialer.forget(address)

    async def close(self) -> None:
        """Waits for what nobody else waits for, each bounded by `UNAWAITED_TIMEOUT_S`, and closes all streams."""
        await asyncio.gather(*self._unawaited, return_exceptions=True)
        for address in list(self._streams):
            await self._streams.pop(address).close()

    def _stream(self, instance: InstanceView) -> Attending:
        address, channel = instance.control_address, self._channel(instance)
        stream = self._streams.get(address)
        if stream is None or stream.loss or stream.channel is not channel:
            if stream:
                stream.retire()  # a channel with older certificates ends with what runs on it
            stream = Attending(channel, instance.instance_id, self._note_loss)
            self._streams[address] = stream
        return stream

    def _note_loss(self, loss: PrfaasError) -> None:
        self._metrics.streams_lost.labels(loss.code).inc()

    def _channel(self, instance: InstanceView) -> grpc.aio.Channel:
        return self._dialer.channel(instance.control_address, instance.cluster)

    def _release(self, address: str) -> None:
        self._in_use[address] -= 1

    def _soon(self, instance: InstanceView, call: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._in_use[instance.control_address] += 1
        task = asyncio.create_task(call)
        self._unawaited.add(task)
        task.add_done_callback(self._unawaited.discard)
        return task

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
