"""The gRPC face of an instance: streams what the services yield, tracks what runs, refuses when draining."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from prfaas.control.convert import ROLE_FROM_PB, ROLE_TO_PB, failure_to_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceServicer
from prfaas.core.errors import CancelledError, DrainingError, EngineError, PrfaasError, RequestError
from prfaas.instance.announce import AnnounceService
from prfaas.instance.attend import AttendContext, AttendService, Commands
from prfaas.instance.decode import DecodeService
from prfaas.instance.prefill import PrefillService
from prfaas.instance.served_role import RoleOrder, ServedRole

log = logging.getLogger(__name__)

PrefillContext = grpc.aio.ServicerContext[pb.PrefillRequest, pb.PrefillEvent]
AnnounceContext = grpc.aio.ServicerContext[pb.AnnounceRequest, pb.AnnounceReply]


class Servicer(InstanceServicer):
    """Every instance serves every call: a role says what the router sends, not what the process can do."""

    def __init__(
        self,
        instance_id: str,
        decode: DecodeService,
        prefill: PrefillService,
        announce: AnnounceService,
        served: ServedRole,
    ) -> None:
        self._instance_id = instance_id
        self._attend = AttendService(instance_id, decode)
        self._prefill = prefill
        self._announce = announce
        self._prefill_calls = 0
        self._prefilling: dict[str, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._served = served
        self._leaving = False

    @property
    def draining(self) -> bool:
        """Nothing new is taken: the instance is about to stop, or to change its role."""
        return self._leaving or self._served.converting_to is not None

    def leave(self) -> None:
        """Takes nothing new any more."""
        self._leaving = True

    @property
    def num_running(self) -> int:
        """Requests; a prefill counts also while its call is broken."""
        return self._attend.num_running + self._prefill.num_running

    # The stubs know handlers that return iterators; writing to the context instead closes our generators at once when
    # the caller goes away, rather than when the garbage collector finds them.
    async def Attend(self, commands: Commands, context: AttendContext) -> None:  # type: ignore[override]
        await self._attend.serve(commands, context, takes=lambda: not self.draining)

    async def Prefill(self, request: pb.PrefillRequest, context: PrefillContext) -> None:  # type: ignore[override]
        # A call that broke may seem to run still when it is made again.
        self._prefill_calls += 1
        name = f"prefill {request.request_id}#{self._prefill_calls}"
        takes = not self.draining or self._prefill.knows(request)
        await self._stream(name, self._prefill.prefill(request), context, takes=takes)

    async def Announce(self, request: pb.AnnounceRequest, context: AnnounceContext) -> pb.AnnounceReply:
        try:
            self._announce.announce(request)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.AnnounceReply()

    async def Cancel(self, request: pb.CancelRequest, context: object) -> pb.CancelReply:  # noqa: ARG002
        found = self._prefill.cancel(request.request_id, request.transfer_id)
        if not request.transfer_id:
            found = self._announce.cancel(request.request_id) or found
            found = self._attend.cancel(request.request_id) or found
        return pb.CancelReply(found=found)

    async def Drain(self, request: pb.DrainRequest, context: object) -> pb.DrainReply:  # noqa: ARG002
        self.leave()
        log.info("draining: %d requests are running", self.num_running)
        return pb.DrainReply(running_requests=self.num_running)

    async def ChangeRole(self, request: pb.ChangeRoleRequest, context: object) -> pb.ChangeRoleReply:  # noqa: ARG002
        order = RoleOrder(ROLE_FROM_PB.get(request.role), request.reason, request.drain_s, request.ordered)
        refusal = self._served.take(order, leaving=self._leaving)
        return pb.ChangeRoleReply(
            accepted=refusal is None,
            refusal=refusal or "",
            role=ROLE_TO_PB[self._served.role],
            running_requests=self.num_running,
        )

    def cut(self) -> None:
        """Cancels all that runs; each caller hears so."""
        self._prefill.cut()
        self._attend.cut()

    async def close(self) -> None:
        """Gives up what goes on without a call."""
        await self._announce.close()

    async def finished(self) -> None:
        """Returns once nothing runs."""
        while self._prefilling or self.num_running:
            await self._idle.wait()
            await self._prefill.finished()
            await self._attend.finished()
        # What ended last may not have been told yet.
        await self._attend.finished()

    async def _stream(
        self, name: str, events: AsyncGenerator[pb.PrefillEvent, None], context: PrefillContext, *, takes: bool
    ) -> None:
        if not takes or name in self._prefilling:
            await context.write(pb.PrefillEvent(failure=failure_to_pb(self._refusal(name))))
            return
        task = asyncio.current_task()
        assert task is not None
        self._prefilling[name] = task
        self._idle.clear()
        try:
            async with aclosing(events):
                async for event in events:
                    await context.write(event)
        except asyncio.CancelledError:
            if context.cancelled():
                raise
            # Cancelled on somebody else's behalf: gRPC would end the call without a word to the caller.
            task.uncancel()
            refusal = CancelledError("the request was cancelled")
            await context.write(pb.PrefillEvent(failure=failure_to_pb(refusal)))
        except Exception as error:  # a request's edge: whatever it was, others go on
            log.exception("%s failed", name)
            failure = failure_to_pb(EngineError(f"{type(error).__name__}: {error}"))
            await context.write(pb.PrefillEvent(failure=failure))
        finally:
            del self._prefilling[name]
            if not self._prefilling:
                self._idle.set()

    def _refusal(self, name: str) -> PrfaasError:
        if name not in self._prefilling:
            return DrainingError(f"{self._instance_id} is draining; send the request elsewhere")
        return EngineError(f"{name} is already running on {self._instance_id}")
