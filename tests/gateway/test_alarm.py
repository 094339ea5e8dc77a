"""An alarm against the simplest one that could be, on a loop whose time only a test moves."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.alarm import Alarm

STEPS = st.lists(st.tuples(st.sampled_from(["set", "never", "pass"]), st.integers(0, 6)), max_size=15)


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its seconds pass when they are told to."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def passes(self, seconds: float) -> None:
        """One second after the other, with all that falls due in each."""
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self.call_soon(self.stop)
            self.run_forever()


@given(steps=STEPS)
def test_it_rings_when_the_latest_deadline_has_passed(steps: list[tuple[str, int]]) -> None:
    loop = SteppedLoop()
    rung: list[float] = []
    expected: list[float] = []
    due_s: float | None = None
    alarm = Alarm(loop, lambda: rung.append(loop.now_s))
    for what, amount in steps:
        match what:
            case "set":
                alarm.set(amount + 1)
                due_s = loop.now_s + amount + 1
            case "never":
                alarm.set(None)
                due_s = None
            case _:
                loop.passes(amount)
        if due_s is not None and loop.now_s >= due_s:
            expected.append(due_s)
            due_s = None
    assert rung == expected
    alarm.stop()
    loop.passes(10)
    assert rung == expected
    loop.close()
