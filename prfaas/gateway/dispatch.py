"""From a request to a call of its decode instance: place it, announce it, send it. Knows no second attempts."""

import asyncio
import logging
from functools import partial

from prfaas.config.sections import FleetConfig, Priority
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import ContendedError
from prfaas.core.ids import InstanceId
from prfaas.core.request import Request
from prfaas.gateway.attempt import Attempt
from prfaas.gateway.calls import InstanceCalls
from prfaas.gateway.directory import Directory
from prfaas.gateway.placement_log import PlacementLog
from prfaas.gateway.policy_params import LiveParams, policy_params
from prfaas.gateway.prompt_blocks import PromptBlocks
from prfaas.gateway.registry import Registry
from prfaas.gateway.retry_budget import RetryBudget
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
    """Places requests with the fleet's policy and sends them to their instances."""

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
        self.retries = RetryBudget(config.router.retry_budget, clock)
        self.hedge_after_s = config.router.hedge_after_s
        registry.when_heard(room.look_soon)

    def begin(
        self,
        request: Request,
        force: Force | None,
        failed: frozenset[InstanceId],
        priority: Priority | None,
        deadline_s: float,
        *,
        whole: bool,
    ) -> Attempt:
        """Places a request and calls its decode instance, of which the first token is due in `deadline_s`.

        `whole`: nobody needs to see tokens before the last one, which is cheaper. Raises what `place` raises.
        """
        blocks = PromptBlocks(request)
        placement, ticket = self.place(request, blocks, force, failed, priority)
        try:
            heard = self.announce(request, blocks, placement)
            call = self.calls.generate(request, placement, deadline_s, heard, whole=whole)
        except BaseException:
            self.ended(ticket)
            raise
        first_token, uncount = partial(self._registry.first_token, ticket), partial(self.ended, ticket)
        return Attempt(request, placement, call, self.calls, first_token, uncount)

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
        ticket = self._registry.placed(placement)
        prefill = placement.prefill or placement.decode
        self.metrics.placements.labels("remote" if placement.remote else "local", prefill.cluster).inc()
        log.debug("request %s: decode on %s: %s", request.request_id, placement.decode.instance_id, placement.reason)
        return placement, ticket

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
