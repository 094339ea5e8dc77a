"""From a request to its tokens: place it, call the decode instance, and place once more if nothing came yet."""

import asyncio
import logging
from dataclasses import replace
from types import TracebackType
from typing import Self

from prfaas.config.sections import FleetConfig, Priority
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import (
    CancelledError,
    CapacityError,
    ContendedError,
    ContextLengthError,
    PeerLostError,
    PrfaasError,
    UnavailableError,
)
from prfaas.core.ids import InstanceId, RequestId
from prfaas.core.request import FinishReason, Request
from prfaas.gateway.calls import InstanceCalls
from prfaas.gateway.directory import Directory
from prfaas.gateway.events import Event, Finished
from prfaas.gateway.generate_call import GenerateCall
from prfaas.gateway.placement_log import PlacementLog
from prfaas.gateway.policy_params import LiveParams, policy_params
from prfaas.gateway.prompt_blocks import PromptBlocks
from prfaas.gateway.registry import Registry
from prfaas.gateway.traffic import Traffic
from prfaas.gateway.waiting_room import WaitingRoom
from prfaas.policy.admit import admit, admit_batch
from prfaas.policy.matches import longest
from prfaas.policy.outstanding import Ticket
from prfaas.policy.place import place
from prfaas.policy.view import CacheTransfer, Force, Placement, PlacementRequest
from prfaas.telemetry.metrics import RouterMetrics

log = logging.getLogger(__name__)


def _source(moved: CacheTransfer) -> pb.CacheSource:
    source = moved.source
    return pb.CacheSource(
        instance_id=source.instance_id,
        cluster=source.cluster,
        control_address=source.control_address,
        tokens=moved.tokens,
    )


class Dispatcher:
    """Places requests with the fleet's policy and relays what their instances answer."""

    def __init__(
        self,
        config: FleetConfig,
        registry: Registry,
        directory: Directory,
        calls: InstanceCalls,
        metrics: RouterMetrics,
        clock: Clock,
        room: WaitingRoom,
    ) -> None:
        self._policy = config.policy.name
        self.params = LiveParams(policy_params(config))
        """The knobs in force; the short loop changes them."""
        self.traffic = Traffic(clock)
        """What was placed."""
        self.placements = PlacementLog(clock)
        """The same, request by request, for people."""
        self.first_token_deadline_s = config.router.first_token_deadline_s
        self._registry = registry
        self._directory = directory
        self.calls = calls
        self.metrics = metrics
        self.clock = clock
        self.room = room
        registry.when_heard(room.look_soon)

    def dispatch(
        self, request: Request, force: Force | None, priority: Priority = "interactive", *, whole: bool = False
    ) -> "Generation":
        """Nothing is sent before the first event is asked for; use it as an async context manager.

        `whole`: nobody needs to see tokens before the last one, which is cheaper.
        """
        return Generation(self, request, force, priority, whole=whole)

    def place(
        self,
        request: Request,
        blocks: PromptBlocks,
        force: Force | None,
        failed: frozenset[InstanceId],
        priority: Priority | None,
    ) -> tuple[Placement, Ticket]:
        """Raises UnavailableError when no instance outside `failed` can take the request. `blocks` are its prompt's.

        The request counts as load until `ended` is called with the ticket. `priority`: its class, by which it is let
        in, or ContendedError is raised; None for one that was let in before.
        """
        tokens = request.prompt_tokens + request.sampling.max_tokens
        view, cached = self._registry.view(), self._directory.cached_tokens(blocks)
        wanted = PlacementRequest(
            prompt_tokens=request.prompt_tokens,
            cached_tokens=cached,
            whole_on_decode=request.sampling.logprobs is not None,
            force=force,
            exclude=failed | self._registry.too_small_for(tokens),
            longest=longest(cached, view),
        )
        placement = place(wanted, view, self.params.now, self._policy)
        refusal = admit_batch(view, self.room.batch_share) if priority == "batch" else None
        if priority and (refusal := refusal or admit(wanted, placement, view, self.params.now)):
            raise ContendedError(refusal.reason, refusal.retry_after_s)
        self.traffic.add(request.prompt_tokens, placement.uncached_tokens)
        self.placements.placed(request, placement)
        ticket = self._registry.placed(placement)
        prefill = placement.prefill or placement.decode
        self.metrics.placements.labels("remote" if placement.remote else "local", prefill.cluster).inc()
        log.debug("request %s: decode on %s: %s", request.request_id, placement.decode.instance_id, placement.reason)
        return placement, ticket

    def first_token(self, ticket: Ticket) -> None:
        """Its prompt no longer waits."""
        self._registry.first_token(ticket)

    def ended(self, ticket: Ticket) -> None:
        """It is no load any more."""
        self._registry.ended(ticket)
        self.room.look_soon()

    def announce(self, request: Request, blocks: PromptBlocks, placement: Placement) -> "asyncio.Future[None] | None":
        """Tells the instance that prefills, if it is another than the one that decodes, or if a cached prefix is to go
        there first; to be called before the decode instance is, so that it hears of it before it is asked.

        What is returned the request must not overtake: it goes to the same instance.
        """
        moved = placement.cache_transfer
        if placement.prefill is None and moved is None:
            return None
        prefill = placement.prefill or placement.decode
        names = self._directory.names_for(prefill.instance_id, blocks)
        message = pb.AnnounceRequest(request_id=request.request_id, block_hashes=names)
        if moved is not None:
            message.source.CopyFrom(_source(moved))
            message.prompt_token_ids.extend(request.prompt_token_ids[: moved.tokens])
            message.cache_salt = request.cache_salt
            self.metrics.cache_transfers.labels(moved.source.cluster, prefill.cluster).inc()
        heard = self.calls.announce_soon(prefill, message) if names or moved else None
        return None if placement.prefill else heard

    async def prune(self) -> None:
        """Closes channels to instances that left the fleet."""
        await self.calls.prune(self._registry.addresses())


class Generation:
    """One request under way. Iterate for its events; leaving the context cancels whatever still runs."""

    def __init__(
        self, dispatcher: Dispatcher, request: Request, force: Force | None, priority: Priority, *, whole: bool
    ) -> None:
        self._whole = whole
        self._dispatcher = dispatcher
        self._request = request
        self._blocks = PromptBlocks(request)
        self._force = force
        self._priority = priority
        self._failed: frozenset[InstanceId] = frozenset()
        self._due_s = dispatcher.clock() + dispatcher.first_token_deadline_s
        self._call: GenerateCall | None = None
        self._ticket: Ticket | None = None
        """Of the attempt under way, which counts as load."""
        self._has_tokens = False
        self._ended = False
        self.placement: Placement | None = None
        """The latest placement; None before the first event was asked for."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self.placements.failed(self._request.request_id, CancelledError.code)
        self._abandon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; `Finished` is the last. Raises the PrfaasError that ended the request."""
        while not self._ended:
            try:
                call = self._call or await self._enter()
                event = await call.read()
                self._note(event, call)
            except PrfaasError as error:
                self._place_again(error)
            else:
                return event
        raise StopAsyncIteration

    @property
    def placements(self) -> PlacementLog:
        """Where what became of it is noted."""
        return self._dispatcher.placements

    @property
    def ready(self) -> bool:
        """The next event would come without a wait."""
        return self._call is not None and self._call.ready

    async def stop(self) -> pb.Account | None:
        """Ends the request on the client's behalf, e.g. at a stop string; its account if that comes at once."""
        self._ended = True
        self._uncount()
        account = await self._call.stop() if self._call else None
        if account:
            self._call = None  # it ended, so there is nothing left to cancel
        return account

    async def _enter(self) -> GenerateCall:
        """The first attempt, as soon as the fleet has room for it. Raises what `WaitingRoom.enter` raises."""
        patience_s = self._due_s - self._dispatcher.clock()
        await self._dispatcher.room.enter(self._start, self._priority, patience_s)
        assert self._call
        return self._call

    def _start(self) -> GenerateCall:
        dispatcher = self._dispatcher
        priority = None if self._failed else self._priority
        self.placement, self._ticket = dispatcher.place(
            self._request, self._blocks, self._force, self._failed, priority
        )
        deadline_s = max(0.001, self._due_s - dispatcher.clock())  # on the wire, 0 means no deadline
        # A prefill instance may still work for the first attempt, so the second needs an id of its own.
        request_id = RequestId(f"{self._request.request_id}.2") if self._failed else self._request.request_id
        attempt = replace(self._request, request_id=request_id)
        heard = dispatcher.announce(attempt, self._blocks, self.placement)
        self._call = dispatcher.calls.generate(attempt, self.placement, deadline_s, heard, whole=self._whole)
        return self._call

    def _note(self, event: Event, call: GenerateCall) -> None:
        """Raises a PrfaasError for events that make no answer."""
        if isinstance(event, Finished):
            self._finished(event, call)
            return
        if not self._has_tokens and self._ticket is not None:
            self._dispatcher.first_token(self._ticket)
        self._has_tokens = True
        if not event.logprobs and self._request.sampling.logprobs is not None:
            raise PrfaasError(f"{call.instance.instance_id} sent tokens without the logprobs that were asked for")

    def _finished(self, event: Finished, call: GenerateCall) -> None:
        if event.reason is FinishReason.CANCELLED:
            raise CancelledError(f"{call.instance.instance_id} cancelled the request")
        self._ended = True
        self._uncount()
        call.end()
        self._call = None

    def _place_again(self, error: PrfaasError) -> None:
        """Prepares the second attempt, or raises `error` where there can be none."""
        if isinstance(error, CancelledError):
            error = PeerLostError(f"{error}, which nobody asked for")
        failed = self.placement.decode.instance_id if self.placement else None
        self._abandon()
        # A pool or context that is too small is the instance's own; another instance may have a larger one.
        elsewhere = error.retryable or isinstance(error, CapacityError | ContextLengthError)
        late = self._dispatcher.clock() >= self._due_s
        if failed is None or self._failed or self._has_tokens or late or not elsewhere:
            self.placements.failed(self._request.request_id, error.code)
            raise error
        self._failed = frozenset({failed})
        try:
            self._start()
        except UnavailableError:
            self.placements.failed(self._request.request_id, error.code)
            raise error from None
        self._ended = False
        self._dispatcher.metrics.retries.labels(error.code).inc()
        log.warning(
            "request %s: %s failed before its first token (%s: %s); placed again",
            self._request.request_id,
            failed,
            error.code,
            error,
        )

    def _abandon(self) -> None:
        self._ended = True
        self._uncount()
        if self._call:
            self._call.end()
            self._dispatcher.calls.cancel_soon(self._call)
            self._call = None

    def _uncount(self) -> None:
        """Nothing of the attempt is load any more."""
        if self._ticket is not None:
            self._dispatcher.ended(self._ticket)
            self._ticket = None
