"""Sessions: each turn begins with all that was said, and what comes does not depend on how answers interleave."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from prfaas.config.deployment import AgenticSection
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.workloads.agentic import RAMP_S, AgenticWorkload

SECTION = AgenticSection(distribution="agentic", sessions=3, turns=5, first_tokens=4000, shared_tokens=1100)


def play(
    section: AgenticSection, requests: int, answer_s: Callable[[Arrival], float] = lambda _: 1.0, seed: int = 0
) -> list[Arrival]:
    """Those that come first, each answered so long after it came."""
    workload = AgenticWorkload(section, output_tokens=600, rng=Random(seed))
    open_turns = list(workload.arrivals())
    seen: list[Arrival] = []
    while len(seen) < requests:
        turn = min(open_turns, key=lambda a: a.at_s)
        open_turns.remove(turn)
        seen.append(turn)
        following = workload.answered(turn, turn.at_s + answer_s(turn))
        assert following is not None
        assert following.at_s >= turn.at_s + answer_s(turn)
        open_turns.append(following)
    return seen


def by_session(arrivals: list[Arrival]) -> dict[int, list[Arrival]]:
    sessions: dict[int, list[Arrival]] = {}
    for arrival in arrivals:
        sessions.setdefault(arrival.session, []).append(arrival)
    return sessions


def test_sessions_begin_over_the_first_minute() -> None:
    workload = AgenticWorkload(SECTION, output_tokens=1, rng=Random(0))
    first = list(workload.arrivals())
    assert [a.session for a in first] == [0, 1, 2]
    times = [a.at_s for a in first]
    assert 0 <= times[0] < times[1] < times[2] < RAMP_S


def test_a_turn_begins_with_the_prompt_and_answer_before_it() -> None:
    sessions = by_session(play(SECTION, 300))
    turns = [(a, b) for session in sessions.values() for a, b in pairwise(session)]
    assert len(turns) > 100
    for before, after in turns:
        said = before.prompt_tokens + before.output_tokens
        assert after.prompt_tokens > said
        assert len(before.blocks) == before.prompt_tokens // 512
        assert len(before.blocks) + len(before.answer_blocks) == said // 512
        assert after.blocks[: said // 512] == before.blocks + before.answer_blocks


def test_sessions_share_their_beginning_alone() -> None:
    sessions = by_session(play(SECTION, 300))
    own = [{i for turn in turns for i in turn.blocks + turn.answer_blocks} for turns in sessions.values()]
    assert len(own) > 20
    for i, one in enumerate(own):
        for other in own[:i]:
            assert one & other <= {0, 1}, "1100 tokens are two whole blocks"


def test_what_is_said_does_not_depend_on_how_long_answers_take() -> None:
    def said(arrivals: list[Arrival]) -> dict[int, list[tuple[int, tuple[int, ...]]]]:
        return {s: [(a.prompt_tokens, a.blocks) for a in turns] for s, turns in by_session(arrivals).items()}

    quick, slow = said(play(SECTION, 200)), said(play(SECTION, 200, lambda a: float(a.prompt_tokens % 97)))
    both = quick.keys() & slow.keys()
    assert len(both) > 10
    for session in both:
        pairs = list(zip(quick[session], slow[session], strict=False))
        assert pairs
        assert all(a == b for a, b in pairs)


def test_the_same_seed_gives_the_same_sessions_and_numbers_are_unique() -> None:
    one = play(SECTION, 200, seed=4)
    assert one == play(SECTION, 200, seed=4)
    assert one != play(SECTION, 200, seed=5)
    assert len({a.number for a in one}) == 200


def test_sessions_have_about_as_many_turns_as_asked_for() -> None:
    sessions = by_session(play(SECTION, 5000))
    assert 5000 / len(sessions) == pytest.approx(SECTION.turns, rel=0.1)


def test_a_session_that_has_grown_too_long_is_followed_by_another() -> None:
    section = SECTION.model_copy(update={"max_tokens": 6000, "turns": 1000, "think_s": 0.0})
    seen = play(section, 200)
    assert max(a.prompt_tokens for a in seen) <= 6000
    assert len(by_session(seen)) > 20
