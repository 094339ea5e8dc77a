"""Who waits, who comes in first, and what those are told who do not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import AdmissionSection, Priority
from prfaas.core.errors import ContendedError, DrainingError, UnavailableError
from prfaas.gateway.waiting_room import TRIES, WaitingRoom
from prfaas.telemetry.admission_metrics import AdmissionMetrics
from tests.gateway.running_router import ManualClock, eventually

FOREVER_S = 60.0


@dataclass
class Fleet:
    """Takes in what there is room for; `inside` has the names in the order in which they came in."""

    room: WaitingRoom
    registry: CollectorRegistry
    slots: int = 0
    inside: list[str] = field(default_factory=list)
    too_long: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)

    def attempt(self, name: str) -> Callable[[], None]:
        def attempt() -> None:
            self.tried.append(name)
            if name in self.too_long or self.slots == 0:
                raise ContendedError(f"{name} does not fit", 7.0)
            self.slots -= 1
            self.inside.append(name)

        return attempt

    async def send(self, name: str, priority: Priority = "interactive", patience_s: float = FOREVER_S) -> Any:
        """A task that ends when it is in."""
        task = asyncio.create_task(self.room.enter(self.attempt(name), priority, patience_s))
        await asyncio.sleep(0)  # until it waits, or is in
        return task

    async def free(self, slots: int) -> None:
        self.slots += slots
        self.room.look_soon()
        await asyncio.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def fleet_of(**section: Any) -> Fleet:
    registry = CollectorRegistry()
    settings = AdmissionSection(**{"max_wait_s": FOREVER_S, **section})
    return Fleet(WaitingRoom(settings, AdmissionMetrics(registry), ManualClock()), registry)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = fleet_of()
    yield fleet
    assert fleet.room.waiting == 0, "nobody is forgotten"
    for priority in ("interactive", "batch"):
        assert fleet.metric("prfaas_router_waiting_requests", priority=priority) == 0


async def test_nobody_waits_where_there_is_room(fleet: Fleet) -> None:
    fleet.slots = 1
    await fleet.room.enter(fleet.attempt("a"), "interactive", FOREVER_S)
    assert fleet.inside == ["a"]
    assert fleet.metric("prfaas_router_wait_seconds_count", priority="interactive") == 0


async def test_first_come_first_served_and_interactive_before_batch(fleet: Fleet) -> None:
    tasks = [
        await fleet.send("b1", "batch"),
        await fleet.send("i1"),
        await fleet.send("b2", "batch"),
        await fleet.send("i2"),
    ]
    assert fleet.metric("prfaas_router_waiting_requests", priority="batch") == 2
    for count in range(1, 5):
        await fleet.free(1)
        assert len(fleet.inside) == count
    assert fleet.inside == ["i1", "i2", "b1", "b2"]
    await asyncio.gather(*tasks)
    assert fleet.metric("prfaas_router_wait_seconds_count", priority="interactive") == 2


async def test_who_comes_does_not_overtake_who_waits(fleet: Fleet) -> None:
    first = await fleet.send("first")
    fleet.slots = 1
    second = await fleet.send("second")
    await first
    assert fleet.inside == ["first"]
    assert not second.done()
    await fleet.free(1)
    await second


async def test_one_that_is_too_long_for_now_does_not_hold_up_the_rest(fleet: Fleet) -> None:
    fleet.too_long.add("long")
    long, short = await fleet.send("long"), await fleet.send("short")
    await fleet.free(2)
    await short
    assert not long.done()
    fleet.too_long.clear()
    await fleet.free(0)
    await long


async def test_a_look_is_short(fleet: Fleet) -> None:
    names = [f"r{i}" for i in range(TRIES + 4)]
    tasks = [await fleet.send(name) for name in names]
    await fleet.free(0)
    fleet.tried.clear()
    for _ in range(5):
        fleet.room.look_soon()
    await asyncio.sleep(0.01)
    assert fleet.tried == names[:TRIES], "however often it is asked for, one look for all, and no more than this"
    await fleet.free(len(names))
    await asyncio.gather(*tasks)


async def test_batch_waits_while_an_interactive_request_does(fleet: Fleet) -> None:
    fleet.too_long.add("long")
    long = await fleet.send("long")
    fleet.slots = 1
    batch = await fleet.send("batch", "batch")
    await asyncio.sleep(0.01)
    assert not batch.done()
    long.cancel()  # its client left
    await batch
    assert fleet.inside == ["batch"]


async def test_a_full_room() -> None:
    fleet = fleet_of(max_waiting_requests=1)
    waits = await fleet.send("waits")
    with pytest.raises(ContendedError, match="came before wait, too: 1; no more requests may wait") as refused:
        await fleet.room.enter(fleet.attempt("late"), "interactive", FOREVER_S)
    assert refused.value.retry_after_s == 7.0
    assert fleet.metric("prfaas_router_refused_total", reason="room_full", priority="interactive") == 1
    await fleet.free(1)
    await waits


async def test_a_full_room_has_room_for_interactive_rather_than_batch() -> None:
    fleet = fleet_of(max_waiting_requests=2)
    early, last = await fleet.send("early", "batch"), await fleet.send("last", "batch")
    interactive = asyncio.create_task(fleet.room.enter(fleet.attempt("i"), "interactive", FOREVER_S))
    with pytest.raises(ContendedError):
        await last
    assert fleet.metric("prfaas_router_refused_total", reason="room_full", priority="batch") == 1
    await fleet.free(2)
    await asyncio.gather(early, interactive)
    assert fleet.inside == ["i", "early"]


@pytest.mark.parametrize(("max_wait_s", "patience_s"), [(0.01, FOREVER_S), (FOREVER_S, 0.01)])
async def test_waiting_in_vain(max_wait_s: float, patience_s: float) -> None:
    fleet = fleet_of(max_wait_s=max_wait_s)
    with pytest.raises(ContendedError, match="does not fit") as refused:
        await fleet.room.enter(fleet.attempt("a"), "interactive", patience_s)
    assert refused.value.retry_after_s == 7.0
    assert fleet.room.waiting == 0
    assert fleet.metric("prfaas_router_refused_total", reason="waited_too_long", priority="interactive") == 1


async def test_a_room_where_nobody_may_wait() -> None:
    fleet = fleet_of(max_wait_s=0)
    with pytest.raises(ContendedError):
        await fleet.room.enter(fleet.attempt("a"), "interactive", FOREVER_S)
    assert fleet.metric("prfaas_router_refused_total", reason="contended", priority="interactive") == 1


async def test_a_client_that_leaves_frees_its_place() -> None:
    fleet = fleet_of(max_waiting_requests=1)
    leaves = await fleet.send("leaves")
    leaves.cancel()
    await eventually(lambda: fleet.room.waiting == 0)
    stays = await fleet.send("stays")
    await fleet.free(1)
    await stays
    assert fleet.inside == ["stays"]


@pytest.mark.parametrize("error", [UnavailableError("nothing can decode"), ZeroDivisionError("a bug")])
async def test_what_else_goes_wrong_ends_the_waiting(fleet: Fleet, error: Exception) -> None:
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise error if attempts > 1 else ContendedError("not yet")

    waits = asyncio.create_task(fleet.room.enter(attempt, "interactive", FOREVER_S))
    await eventually(lambda: fleet.room.waiting == 1)
    next_one = await fleet.send("next")
    await fleet.free(1)
    with pytest.raises(type(error)):
        await waits
    await next_one


async def test_draining() -> None:
    fleet = fleet_of()
    waits = await fleet.send("waits")
    fleet.room.close()
    with pytest.raises(DrainingError):
        await waits
    with pytest.raises(DrainingError):
        await fleet.room.enter(fleet.attempt("late"), "interactive", FOREVER_S)
    assert fleet.room.waiting == 0
