"""When KV is encoded on its way, and that nothing is rounded where that is not allowed."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.config.sections import CodecName
from prfaas.policy.codec import ROUNDS, SAVES, Route, choose, lossless

SPEEDS: dict[CodecName, float] = {"exact": 2e9, "int8": 5e9, "state16": 8e9}
KV: frozenset[CodecName] = frozenset({"raw", "exact", "int8"})
NAMES: st.SearchStrategy[CodecName] = st.sampled_from(sorted(SAVES))
SETS = st.frozensets(NAMES)
RATES = st.floats(1.0, 1e12)
ROUTES = st.builds(Route, st.none() | RATES, st.sampled_from([0.0, 0.02]))
SPEED_MAPS = st.dictionaries(st.sampled_from(sorted(SPEEDS)), RATES)


@given(offered=SETS, usable=SETS, route=ROUTES, speeds=SPEED_MAPS, produced=st.none() | RATES)
def test_what_is_chosen_is_allowed(
    offered: frozenset[CodecName],
    usable: frozenset[CodecName],
    route: Route,
    speeds: dict[CodecName, float],
    produced: float | None,
) -> None:
    chosen = choose(offered, usable, route, speeds, produced)
    assert chosen == "raw" or chosen in offered & usable & speeds.keys()
    assert choose(lossless(offered), usable, route, speeds, produced) not in ROUNDS


@given(offered=SETS, usable=SETS, rate=RATES, slower=st.floats(0.0, 1.0), produced=st.none() | RATES)
def test_a_slower_link_never_gets_more_bytes(
    offered: frozenset[CodecName], usable: frozenset[CodecName], rate: float, slower: float, produced: float | None
) -> None:
    fast = choose(offered, usable, Route(rate), SPEEDS, produced)
    slow = choose(offered, usable, Route(rate * slower), SPEEDS, produced)
    assert SAVES[slow] >= SAVES[fast]


@given(offered=SETS, usable=SETS, route=ROUTES, produced=st.none() | RATES)
def test_bytes_that_cost_money_are_as_few_as_may_be(
    offered: frozenset[CodecName], usable: frozenset[CodecName], route: Route, produced: float | None
) -> None:
    paid = choose(offered, usable, Route(route.rate_bytes_s, 0.02), SPEEDS, produced)
    assert SAVES[paid] == max((SAVES[name] for name in offered & usable), default=1.0)


def test_a_link_that_limits_is_spared() -> None:
    assert choose(KV, KV, Route(1.25e8), SPEEDS, 1e9) == "int8"
    assert choose(lossless(KV), KV, Route(1.25e8), SPEEDS, 1e9) == "exact"


def test_a_link_that_does_not_limit_is_not() -> None:
    assert choose(KV, KV, Route(), SPEEDS, None) == "raw"
    assert choose(KV, KV, Route(1e9), SPEEDS, 0.9e9) == "raw"
    assert choose(KV, KV, Route(1e10), SPEEDS, None) == "raw"


def test_only_what_is_faster_than_the_link_is_used() -> None:
    assert choose(KV, KV, Route(3e9), SPEEDS, None) == "int8"
    assert choose(lossless(KV), KV, Route(3e9), SPEEDS, None) == "raw"
