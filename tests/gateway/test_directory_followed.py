"""Directory and order of batches against the truth: losses, restarts, replays, all formats, too little room, any clock.

What is said of an instance is never more than it held after the last batch that was taken; and all of it where nothing
had to be left out.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prfaas.control.kv_order import Events, KvOrder
from prfaas.core.ids import InstanceId, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.directory import Applied, Directory
from prfaas.gateway.prompt_blocks import PromptBlocks
from tests.gateway.told_publisher import BLOCK_TOKENS, CHAINS, FINGERPRINT, Holding, ToldPublisher, chain_names

T = TypeVar("T")
FORMATS = ("ours", "maps", "arrays")


def at_once(step: Coroutine[Any, Any, T]) -> T:
    """Runs what never has to wait."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # typed by the coroutine
    raise AssertionError("it waits")


@dataclass
class Followed:
    """One instance: its publisher, and the router's side of it."""

    instance_id: InstanceId
    publisher: ToldPublisher
    order: KvOrder = field(init=False)
    lacks: Applied = field(default_factory=Applied)

    def __post_init__(self) -> None:
        self.order = KvOrder(self.publisher.ask, lambda _: None)

    def said(self, directory: Directory) -> set[Holding]:
        holdings = directory._instances[self.instance_id]
        return {(group, name) for group, part in enumerate(holdings.parts) for name in part.names}  # type: ignore[misc] # names of ours

    @property
    def is_whole(self) -> bool:
        return self.lacks == Applied() and (self.publisher.form == "ours" or not self.publisher.forgot)


followed = st.sampled_from(range(len(FORMATS)))
groups = st.integers(0, 1)
lost = st.booleans()


class FollowedFleet(RuleBasedStateMachine):
    """One instance of each format."""

    @initialize(
        room=st.sampled_from([5, 1000]), room_in_all=st.sampled_from([12, 1000]), kept=st.sampled_from([2, 4, 1000])
    )
    def begin(self, room: int, room_in_all: int, kept: int) -> None:
        self.directory = Directory(has_states=True, max_entries=room, max_total_entries=room_in_all)
        self.room_in_all = room_in_all
        self.fleet = [
            Followed(InstanceId(form), ToldPublisher(form, kept))  # type: ignore[arg-type] # one of these words
            for form in FORMATS
        ]
        for one in self.fleet:
            self.directory.admit(one.instance_id, 1, FINGERPRINT, BLOCK_TOKENS)
            one.publisher.begin()

    @rule(
        i=followed, group=groups, chain=st.integers(0, 1), first=st.integers(0, 6), blocks=st.integers(1, 4), lost=lost
    )
    def store(self, i: int, group: int, chain: int, first: int, blocks: int, lost: bool) -> None:
        self.fleet[i].publisher.store(group, chain, first, blocks, lost=lost)

    @rule(i=followed, lost=lost, data=st.data())
    def remove(self, i: int, lost: bool, data: st.DataObject) -> None:
        publisher = self.fleet[i].publisher
        if publisher.held:
            publisher.remove(data.draw(st.sampled_from(sorted(publisher.held))), lost=lost)

    @rule(i=followed, lost=lost)
    def clear(self, i: int, lost: bool) -> None:
        self.fleet[i].publisher.clear(lost=lost)

    @rule(i=followed, clock_s=st.integers(-(10**9), 10**9))
    def restart(self, i: int, clock_s: int) -> None:
        publisher = self.fleet[i].publisher
        publisher.clock_s = clock_s
        publisher.begin()

    @rule(i=followed)
    def disconnect(self, i: int) -> None:
        self.fleet[i].publisher.wire = None

    @rule(i=followed, asks=st.integers(1, 3))
    def ask_in_vain(self, i: int, asks: int) -> None:
        self.fleet[i].publisher.failing_asks = asks

    @rule(i=followed, repeated=st.booleans())
    def hear(self, i: int, repeated: bool) -> None:
        one = self.fleet[i]
        wire = one.publisher.wire
        if wire is None:
            one.publisher.wire = []
            if not self._step(one, one.order.connected()):
                one.publisher.wire = None
        elif wire and self._step(one, one.order.take(wire[0])) and not repeated:
            del wire[0]

    @rule(i=followed)
    def probe(self, i: int) -> None:
        one = self.fleet[i]
        if one.publisher.wire is not None:
            self._step(one, one.order.catch_up())

    @rule()
    def follow_to_the_end(self) -> None:
        for one in self.fleet:
            one.publisher.failing_asks = 0
            self.hear(self.fleet.index(one), repeated=False)
            while one.publisher.wire:
                self.hear(self.fleet.index(one), repeated=False)
            assert self._step(one, one.order.catch_up())
            said = one.said(self.directory)
            assert said <= one.publisher.held
            if one.is_whole:
                assert said == one.publisher.held

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def never_more_than_was_told(self) -> None:
        for one in self.fleet:
            last = one.order._last
            held = one.publisher.truths[last.digest] if last else frozenset[Holding]()
            assert one.said(self.directory) <= held
        assert self.directory._entries <= self.room_in_all
        assert self.directory._entries == sum(holdings.entries for holdings in self.directory._instances.values())

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def prompts_are_found_as_far_as_their_blocks_are(self) -> None:
        for chain, tokens in enumerate(CHAINS):
            prompt = Request(RequestId("r"), (*tokens, 0), SamplingParams(max_tokens=1))
            found = self.directory.cached_tokens(PromptBlocks(prompt))
            names = chain_names(chain)
            for one in self.fleet:
                said = one.said(self.directory)
                usable = 0
                for blocks, name in enumerate(names, 1):
                    if (0, name) not in said:
                        break
                    usable = blocks if (1, name) in said else usable
                assert found.get(one.instance_id, 0) == usable * BLOCK_TOKENS

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self.follow_to_the_end()
            for one in self.fleet:
                self.directory.forget(one.instance_id)
            assert self.directory._entries == len(self.directory._holders) == 0

    def _step(self, one: Followed, step: Coroutine[Any, Any, list[Events]]) -> bool:
        """Whether the publisher answered what was asked."""
        try:
            batches = at_once(step)
        except TimeoutError:
            return False
        for events in batches:
            applied = self.directory.apply(one.instance_id, 1, events)
            if applied.dropped:
                for each in self.fleet:
                    each.lacks.dropped += applied.dropped
            one.lacks.unnamed += applied.unnamed
        return True


TestFollowedFleet = FollowedFleet.TestCase
TestFollowedFleet.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
