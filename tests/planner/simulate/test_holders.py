"""Who may hold a prompt's beginning."""

import pytest

from prfaas.core.ids import InstanceId
from prfaas.planner.simulate import holders
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.holders import Holders

A, B = InstanceId("a"), InstanceId("b")


def prompt(*blocks: int) -> Arrival:
    return Arrival(0, 0.0, 512 * len(blocks) + 1, 1, blocks)


def test_those_that_got_one_with_the_same_first_two_blocks() -> None:
    known = Holders()
    known.add(prompt(1, 2, 3), [A])
    known.add(prompt(1, 2, 4), [A, B])
    known.add(prompt(1, 5), [B])
    assert known.of(prompt(1, 2)) == (A, B)
    assert known.of(prompt(1, 5, 6)) == (B,)
    assert known.of(prompt(1, 7)) == known.of(prompt()) == ()


def test_a_prompt_of_one_block() -> None:
    known = Holders()
    known.add(prompt(9), [A])
    assert known.of(prompt(9)) == (A,)


def test_what_was_not_placed_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "BEGINNINGS", 2)
    known = Holders()
    for blocks in ((1, 2), (1, 3), (1, 2), (1, 4)):
        known.add(prompt(*blocks), [A])
    assert known.of(prompt(1, 3)) == ()
    assert known.of(prompt(1, 2)) == known.of(prompt(1, 4)) == (A,)
