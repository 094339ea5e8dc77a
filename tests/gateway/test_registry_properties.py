"""The registry under any order of events, compared with a model of a few lines."""

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.gateway.registration import RefusedError
from tests.gateway.test_registry import STALE_S, Table, instance

names = st.sampled_from(["a", "b", "c"])
epochs = st.integers(1, 3)
ports = st.integers(1, 2)
fingerprints = st.sampled_from(["f1", "f2"])


@dataclass
class Life:
    """What the model remembers of an instance."""

    epoch: int
    address: str
    fingerprint: str
    draining: bool
    seen_s: float


class AnyOrder(RuleBasedStateMachine):
    """Registrations, heartbeats, farewells and the passing of time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.lives: dict[str, Life] = {}

    def live(self, name: str) -> bool:
        life = self.lives.get(name)
        return life is not None and self.table.clock.now_s - life.seen_s < STALE_S

    def may_have(self, name: str, fingerprint: str) -> bool:
        return all(self.lives[n].fingerprint == fingerprint for n in self.lives if n != name and self.live(n))

    @rule(name=names, epoch=epochs, port=ports, fingerprint=fingerprints, draining=st.booleans())
    def register(self, name: str, epoch: int, port: int, fingerprint: str, draining: bool) -> None:
        address = f"10.0.0.1:{port}"
        clash = self.live(name) and self.lives[name].address != address
        info = instance(name, epoch=epoch, control_address=address, model_fingerprint=fingerprint)
        try:
            self.table.registry.register(info, pb.Load(draining=draining))
        except RefusedError:
            assert clash or not self.may_have(name, fingerprint)
        else:
            assert not clash
            assert self.may_have(name, fingerprint)
            self.lives[name] = Life(epoch, address, fingerprint, draining, self.table.clock.now_s)

    @rule(name=names, epoch=epochs, draining=st.booleans())
    def heartbeat(self, name: str, epoch: int, draining: bool) -> None:
        known = self.table.registry.heartbeat(name, epoch, pb.Load(draining=draining))
        life = self.lives.get(name)
        if life is None or life.epoch != epoch:
            assert not known
        elif not self.live(name) and not self.may_have(name, life.fingerprint):
            assert not known
            del self.lives[name]
        else:
            assert known
            life.draining, life.seen_s = draining, self.table.clock.now_s

    @rule(name=names, epoch=epochs)
    def absurd_heartbeat(self, name: str, epoch: int) -> None:
        """Changes nothing: not the load, and it is no sign of life either."""
        try:
            known = self.table.registry.heartbeat(name, epoch, pb.Load(pages_used=2, pages_total=1))
        except RefusedError:
            assert name in self.lives
            assert self.lives[name].epoch == epoch
        else:
            assert not known

    @rule(name=names, epoch=epochs)
    def deregister(self, name: str, epoch: int) -> None:
        self.table.registry.deregister(name, epoch)
        if name in self.lives and self.lives[name].epoch == epoch:
            del self.lives[name]

    @rule(seconds=st.sampled_from([1.0, 11.0, STALE_S, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.table.clock.now_s += seconds

    @rule()
    def sweep(self) -> None:
        self.table.registry.sweep()
        known = {entry.info.instance_id for entry in self.table.registry.entries()}
        for name in set(self.lives) - known:
            assert not self.live(name)
            del self.lives[name]

    @invariant()
    def only_live_instances_get_requests(self) -> None:
        expected = {name for name, life in self.lives.items() if self.live(name) and not life.draining}
        views = self.table.registry.view().instances
        assert {view.instance_id for view in views} == expected
        assert len(views) == len(expected)
        assert all(view.control_address == self.lives[view.instance_id].address for view in views)

    @invariant()
    def one_model_is_served(self) -> None:
        assert len({life.fingerprint for name, life in self.lives.items() if self.live(name)}) <= 1

    @invariant()
    def everything_known_is_listed(self) -> None:
        states = self.table.states()
        assert set(states) == set(self.lives)
        assert all((state == "stale") == (not self.live(name)) for name, state in states.items())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
