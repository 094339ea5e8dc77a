"""One request until its answer ends, on one decode instance after another if need be. Knows no text and no clients."""

import logging
from dataclasses import replace
from types import TracebackType
from typing import Self

from prfaas.config.sections import Priority
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import (
    CancelledError,
    CapacityError,
    ContextLengthError,
    NotNowError,
    PeerLostError,
    PrfaasError,
    UnavailableError,
)
from prfaas.core.ids import InstanceId, RequestId
from prfaas.core.request import Request
from prfaas.gateway.attempt import Attempt
from prfaas.gateway.continuation import continued
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.events import Event, Finished
from prfaas.gateway.hedge import race, within
from prfaas.gateway.placement_log import PlacementLog
from prfaas.policy.view import Force, Placement

log = logging.getLogger(__name__)


class Generation:
    """One request under way. Iterate for its events; leaving the context cancels whatever still runs.

    It is placed a second time where its first instance fails, before its first token or after it, or is slow to begin;
    never a third time, as it may be what the instances fail of.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Request,
        force: Force | None,
        priority: Priority,
        *,
        whole: bool = False,
        alone: bool = True,
    ) -> None:
        """Nothing is sent before the first event is asked for. `whole`: as in `Dispatcher.begin`.

        `alone`: it is its client's whole call. One of several choices is not hedged: the slowest of many is often slow.
        """
        self._dispatcher = dispatcher
        self._request = request
        self._force = force
        self._priority = priority
        self._whole = whole
        self._hedge_after_s = dispatcher.hedge_after_s if alone and priority == "interactive" else None
        self._due_s = dispatcher.clock() + dispatcher.first_token_deadline_s
        self._attempt: Attempt | None = None
        """The latest, or the one that won."""
        self._placed = 0
        self._token_ids: list[int] = []
        """Those that came."""
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._placed and not self._ended:
            self.placements.failed(self._request.request_id, CancelledError.code)
        self._abandon()
        if self._placed:
            self._dispatcher.retries.ended()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; `Finished` is the last. Raises the PrfaasError that ended the request."""
        while not self._ended:
            try:
                event = await self._read()
                self._note(event)
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
    def placement(self) -> Placement | None:
        """Of the latest attempt, or the one that won; None before the first event was asked for."""
        return self._attempt.placement if self._attempt else None

    @property
    def sent_tokens(self) -> int:
        """Length of the prompt that this placement was made for; what of the answer had come before is part of it."""
        return self._attempt.prompt_tokens if self._attempt else self._request.prompt_tokens

    @property
    def ready(self) -> bool:
        """The next event would come without a wait."""
        return self._attempt is not None and self._attempt.ready

    async def stop(self) -> pb.Account | None:
        """Ends the request on the client's behalf, e.g. at a stop string; its account if that comes at once."""
        self._ended = True
        return await self._attempt.stop() if self._attempt else None

    async def _read(self) -> Event:
        attempt = self._attempt or await self._enter()
        if self._token_ids or self._placed > 1 or self._hedge_after_s is None:
            return await attempt.read()
        return await self._read_hedged(attempt, self._hedge_after_s)

    async def _enter(self) -> Attempt:
        """The first attempt, as soon as the fleet has room for it. Raises what `WaitingRoom.enter` raises."""
        patience_s = self._due_s - self._dispatcher.clock()
        await self._dispatcher.room.enter(self._start, self._priority, patience_s)
        assert self._attempt
        return self._attempt

    def _start(self) -> None:
        self._attempt = self._begin(frozenset(), self._priority)
        self._dispatcher.retries.began()

    def _begin(self, failed: frozenset[InstanceId], priority: Priority | None) -> Attempt:
        dispatcher = self._dispatcher
        deadline_s = max(0.001, self._due_s - dispatcher.clock())  # on the wire, 0 means no deadline
        request = continued(self._request, self._token_ids)
        if self._placed:  # a prefill instance may still work for the first attempt
            request = replace(request, request_id=RequestId(f"{request.request_id}.{self._placed + 1}"))
        attempt = dispatcher.begin(request, self._force, failed, priority, deadline_s, whole=self._whole)
        self._placed += 1
        dispatcher.placements.placed(self._request, attempt.placement)
        return attempt

    async def _read_hedged(self, attempt: Attempt, after_s: float) -> Event:
        if event := await within(attempt, after_s):
            return event
        second = self._hedge(attempt)
        if second is None:
            return await attempt.read()
        self._attempt, event = await race(attempt, second)
        if self._attempt is second:
            self._dispatcher.metrics.retries.hedges_won.inc()
        return event

    def _hedge(self, attempt: Attempt) -> Attempt | None:
        """A second attempt where nothing of the first one is; None where there is no instance or no room for it."""
        self._hedge_after_s = None
        if not self._may_place_again("hedge"):
            return None
        try:
            second = self._begin(attempt.instances, self._priority)
        except NotNowError as error:
            log.debug("request %s: not hedged: %s", self._request.request_id, error)
            return None
        self._dispatcher.retries.placed_again()
        self._dispatcher.metrics.retries.hedges.inc()
        log.info("request %s: %s is slow; sent to %s, too", self._request.request_id, attempt.decode, second.decode)
        return second

    def _note(self, event: Event) -> None:
        """Raises a PrfaasError for events that make no answer."""
        assert self._attempt, "it is of an attempt"
        if isinstance(event, Finished):
            self._abandon()
            return
        if not event.logprobs and self._request.sampling.logprobs is not None:
            raise PrfaasError(f"{self._attempt.decode} sent tokens without the logprobs that were asked for")
        self._attempt.note_token()
        self._token_ids.extend(event.token_ids)

    def _place_again(self, error: PrfaasError) -> None:
        """Begins the second attempt, or raises `error` where there can be none."""
        if isinstance(error, CancelledError):
            error = PeerLostError(f"{error}, which nobody asked for")
        failed = self._attempt
        self._abandon()
        if failed is None or not self._can_go_on(error) or not self._may_place_again("retry"):
            self.placements.failed(self._request.request_id, error.code)
            raise error
        if self._token_ids:
            self._due_s = self._dispatcher.clock() + self._dispatcher.first_token_deadline_s
        try:
            self._attempt = self._begin(frozenset({failed.decode}), None)
        except UnavailableError:
            self.placements.failed(self._request.request_id, error.code)
            raise error from None
        self._ended = False
        self._count_retry(failed, error)

    def _can_go_on(self, error: PrfaasError) -> bool:
        """Another instance may do what this one failed to."""
        # A pool or context that is too small is the instance's own; another instance may have a larger one.
        elsewhere = error.retryable or isinstance(error, CapacityError | ContextLengthError)
        late = not self._token_ids and self._dispatcher.clock() >= self._due_s
        unfinished = len(self._token_ids) < self._request.sampling.max_tokens
        return elsewhere and not late and unfinished and self._placed == 1

    def _may_place_again(self, kind: str) -> bool:
        if self._dispatcher.retries.has_room():
            return True
        self._dispatcher.metrics.retries.refused.labels(kind).inc()
        log.warning("request %s: no %s, as too many were placed twice lately", self._request.request_id, kind)
        return False

    def _count_retry(self, failed: Attempt, error: PrfaasError) -> None:
        self._dispatcher.retries.placed_again()
        metrics = self._dispatcher.metrics.retries
        metrics.retries.labels(error.code).inc()
        if self._token_ids:
            metrics.continued.inc()
        when = f"after {len(self._token_ids)} tokens" if self._token_ids else "before its first token"
        message = "request %s: %s failed %s (%s: %s); placed again"
        log.warning(message, self._request.request_id, failed.decode, when, error.code, error)

    def _abandon(self) -> None:
        """Nothing runs for it any more, and nothing of it counts as load."""
        self._ended = True
        if self._attempt:
            self._attempt.end()
