"""Routers share nothing: those that hear the same of every instance place alike, in whatever order they heard."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from prometheus_client import CollectorRegistry

from prfaas.control.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName, InstanceId, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.directory import Directory
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.gateway.prompt_blocks import PromptBlocks
from prfaas.gateway.registry import Registry
from prfaas.policy.matches import longest
from prfaas.policy.place import place
from prfaas.policy.view import Placement, PlacementRequest, PolicyParams
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.running_router import ManualClock, fleet_config
from tests.gateway.test_registry import instance
from tests.policy.fleets import H20, H200

BLOCK = 4
CLUSTERS = {"a": "home", "b": "home", "c": "home", "d": "second", "e": "far", "f": "far"}
PROFILES = {"home": H20, "second": H20, "far": H200}
LENGTHS = (3, 40, 2000)
"""Below and above the threshold."""

counts = st.integers(0, 9)
tokens = st.integers(0, 300_000)
loads = st.builds(
    pb.Load, waiting_requests=counts, running_requests=counts, waiting_tokens=tokens, draining=st.booleans()
)
links = st.builds(
    pb.LinkReport,
    cluster=st.sampled_from(["home", "far"]),
    bytes_per_s=st.sampled_from([0.0, 1e6, 1e9]),
    rtt_s=st.sampled_from([0.001, 0.1, 1.0]),
    queued_s=st.sampled_from([0.0, 3.0]),
    age_s=st.sampled_from([0.0, 5.0]),
)


def prompt_of(length: int) -> PromptBlocks:
    return PromptBlocks(Request(RequestId("r"), tuple(range(length)), SamplingParams(max_tokens=1), ""))


PROMPTS = {length: prompt_of(length) for length in LENGTHS}
NAMES = PROMPTS[max(LENGTHS)].names("f1", BLOCK)


class Replica:
    """What one router knows, and where it would send a prompt."""

    def __init__(self, clock: ManualClock) -> None:
        config = fleet_config(Path("unused"), threshold_tokens=100)
        profiles = LiveProfiles({ClusterName(name): profile for name, profile in PROFILES.items()}, None, 64)
        self.registry = Registry(config, RouterMetrics(CollectorRegistry()), clock, profiles)
        self.directory = Directory(has_states=False)

    def placement(self, length: int, policy: Any) -> Placement:
        cached, view = self.directory.cached_tokens(PROMPTS[length]), self.registry.view()
        wanted = PlacementRequest(length, cached, longest=longest(cached, view))
        return place(wanted, view, PolicyParams(100, cache_transfers=True), policy)


Event = Callable[[Replica], object]


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """What happens to each instance, from its registration on."""
    return [draw(history(name)) for name in draw(st.lists(st.sampled_from(sorted(CLUSTERS)), unique=True, min_size=2))]


@st.composite
def history(draw: st.DrawFn, name: str) -> list[Event]:
    roles = (pb.ROLE_PREFILL,) if CLUSTERS[name] == "far" else (pb.ROLE_DECODE, pb.ROLE_PREFILL)

    def registers() -> Event:
        info = instance(name, cluster=CLUSTERS[name], role=draw(st.sampled_from(roles)))
        load = draw(loads)
        return lambda replica: replica.registry.register(info, load)

    def begins() -> Event:
        return lambda replica: replica.directory.admit(InstanceId(name), 1, "f1", BLOCK)

    def beats() -> Event:
        load, told, partial = draw(loads), draw(st.lists(links, max_size=2)), draw(st.booleans())
        return lambda replica: replica.registry.heartbeat(name, 1, load, told, partial=partial)

    def caches() -> Event:
        upto = draw(st.integers(1, len(NAMES)))
        stored = BlockStored(tuple(NAMES[:upto]), None, (), BLOCK, None, "GPU", None, group_idx=0)
        return lambda replica: replica.directory.apply(InstanceId(name), 1, [stored])

    def drops() -> Event:
        gone = BlockRemoved((NAMES[draw(st.integers(0, len(NAMES) - 1))],), "GPU", 0)
        event: KvEvent = AllBlocksCleared() if draw(st.booleans()) else gone
        return lambda replica: replica.directory.apply(InstanceId(name), 1, [event])

    def leaves() -> Event:
        return lambda replica: replica.registry.deregister(name, 1)

    kinds = draw(st.lists(st.sampled_from([registers, beats, beats, caches, drops, leaves]), max_size=8))
    return [make() for make in (registers, begins, *kinds)]


def play(replica: Replica, events: list[list[Event]], order: random.Random) -> None:
    """Each instance's events in their order, and those of different instances in any."""
    left = [list(of_one) for of_one in events]
    while left := [of_one for of_one in left if of_one]:
        order.choice(left).pop(0)(replica)
    replica.registry.sweep()


@given(histories(), st.randoms(use_true_random=False), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_equal_events_make_equal_placements(
    events: list[list[Event]], order: random.Random, other_order: random.Random
) -> None:
    clock = ManualClock()
    one, other = Replica(clock), Replica(clock)
    play(one, events, order)
    play(other, events, other_order)
    for policy in ("prfaas", "static_threshold", "isl_or_load", "local_only", "all_remote"):
        for length in LENGTHS:
            assert said(one, length, policy) == said(other, length, policy)


def said(replica: Replica, length: int, policy: str) -> Placement | str:
    try:
        return replica.placement(length, policy)
    except UnavailableError as error:
        return str(error)
