"""Changing roles: who may, and that work ends before the role changes, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from prometheus_client import CollectorRegistry

from prfaas.instance import role_change
from prfaas.instance.role_change import RoleChange
from prfaas.instance.served_role import RoleOrder, ServedRole
from prfaas.telemetry.role_metrics import RoleMetrics
from tests.eventually import eventually_async

COOLDOWN_S = 300.0


@dataclass
class ManualClock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def served(
    clock: ManualClock, role: Literal["prefill", "decode"] = "decode", kind: Literal["pd", "prfaas"] = "pd"
) -> ServedRole:
    return ServedRole("i", role, kind, COOLDOWN_S, clock)


def state(role: ServedRole) -> tuple[str, str | None]:
    return role.role, role.converting_to


def order(role: Literal["prefill", "decode"] | None = "prefill", **changes: Any) -> RoleOrder:
    return RoleOrder(**({"role": role, "reason": "", "drain_s": 0.0, "ordered": False} | changes))


def test_one_change_at_a_time_and_a_cool_down_after_it() -> None:
    clock = ManualClock()
    role = served(clock)
    assert role.take(order(), leaving=False) is None
    assert role.converting_to == "prefill"
    assert "already changing" in (role.take(order(), leaving=False) or "")
    clock.now_s = 7.0
    role.turn()
    assert state(role) == ("prefill", None)
    assert role.age_s == 0.0
    clock.now_s += COOLDOWN_S - 1
    assert "loops.cooldown_s" in (role.take(order("decode"), leaving=False) or "")
    assert role.take(order("decode", ordered=True), leaving=False) is None
    role.turn()
    clock.now_s += COOLDOWN_S
    assert role.take(order(), leaving=False) is None


@pytest.mark.parametrize(
    ("asked", "leaving", "words"),
    [
        (order(None), False, "only the roles"),
        (order("prefill"), False, "in the role prefill already"),
        (order("decode"), False, "only prefills"),
        (order("decode"), True, "in order to stop"),
        (order("decode", drain_s=float("nan")), False, "drain for nan"),
        (order("decode", drain_s=-1.0), False, "drain for -1.0"),
    ],
)
def test_refusals(asked: RoleOrder, leaving: bool, words: str) -> None:
    role = served(ManualClock(), "prefill", "prfaas")
    assert words in (role.take(asked, leaving=leaving) or "")
    assert role.converting_to is None


@dataclass
class FakeWork:
    """Ends when a test says so, or when it is cut."""

    num_running: int = 3
    over: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0
    deaf: bool = False

    async def finished(self) -> None:
        await self.over.wait()

    def cut(self) -> None:
        self.cuts += 1
        if not self.deaf:
            self.over.set()


@dataclass
class FakeRouters:
    """Writes down what each router would be told."""

    role: ServedRole
    told: list[tuple[str, str, str | None]] = field(default_factory=list)
    breaks: bool = False

    async def beat(self) -> None:
        if self.breaks:
            raise RuntimeError("as the test wants it")
        self.told.append(("beat", self.role.role, self.role.converting_to))

    def renew(self) -> None:
        self.told.append(("renew", self.role.role, self.role.converting_to))


@dataclass
class Rig:
    role: ServedRole
    work: FakeWork
    routers: FakeRouters
    registry: CollectorRegistry
    change: RoleChange

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("prfaas_role_changes_total", {"outcome": outcome}) or 0.0


@asynccontextmanager
async def changing(**work: Any) -> AsyncIterator[Rig]:
    role, registry = served(ManualClock()), CollectorRegistry()
    routers = FakeRouters(role)
    rig = Rig(role, FakeWork(**work), routers, registry, None)  # type: ignore[arg-type]
    rig.change = RoleChange(role, rig.work, routers, RoleMetrics(registry), drain_s=1000.0)
    rig.change.start()
    try:
        yield rig
    finally:
        await rig.change.stop()


async def test_work_ends_first_and_routers_hear_of_both_ends() -> None:
    async with changing() as rig:
        roles: tuple[Literal["prefill", "decode"], ...] = ("prefill", "decode")
        for role in roles:
            rig.work.over.clear()
            assert rig.role.take(order(role, ordered=True), leaving=False) is None
            await eventually_async(lambda: bool(rig.routers.told))
            assert rig.role.role != role
            rig.work.over.set()
            await eventually_async(lambda: len(rig.routers.told) == 2)
            before = "decode" if role == "prefill" else "prefill"
            assert rig.routers.told == [("beat", before, role), ("renew", role, None)]
            rig.routers.told.clear()
        assert (rig.work.cuts, rig.count("drained")) == (0, 2)
        assert rig.registry.get_sample_value("prfaas_role", {"role": "decode"}) == 1
        assert rig.registry.get_sample_value("prfaas_role", {"role": "prefill"}) is None


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_takes_too_long_is_cut(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_change, "CUT_S", 0.01)
    async with changing(deaf=deaf) as rig:
        rig.role.take(order(drain_s=0.01), leaving=False)
        await eventually_async(lambda: rig.role.role == "prefill")
        assert (rig.work.cuts, rig.count("cut")) == (1, 1)


async def test_a_stop_in_the_middle_gives_the_change_up() -> None:
    async with changing() as rig:
        rig.role.take(order(), leaving=False)
        await eventually_async(lambda: bool(rig.routers.told))
        await rig.change.stop()
        assert state(rig.role) == ("decode", None)
        assert rig.routers.told[-1][0] == "beat"


async def test_a_change_that_breaks_leaves_an_instance_that_serves(caplog: pytest.LogCaptureFixture) -> None:
    async with changing() as rig:
        rig.routers.breaks = True
        rig.role.take(order(), leaving=False)
        await eventually_async(lambda: rig.count("failed") == 1)
        assert state(rig.role) == ("decode", None)
        assert "the role is not changed" in caplog.text
        rig.routers.breaks = False
        rig.work.over.set()
        assert rig.role.take(order(), leaving=False) is None
        await eventually_async(lambda: rig.role.role == "prefill")
