"""The short loop: single decisions by hand, and whether it settles when what it decides has consequences."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from prfaas.policy.recent import Recent
from prfaas.policy.retune import RetuneParams, Signals, Tuning, retune
from prfaas.policy.solve import solve
from tests.policy.paper import LENGTHS, PRFAAS_PD

PARAMS = RetuneParams(prompts=0, smooth_s=0)
"""Margins and signals as they stand, so that they can be reckoned with by hand."""
BEST = solve(PRFAAS_PD, LENGTHS, n_p=3).threshold_tokens
EVEN = Signals(
    at_s=100.0,
    link_utilisation=0.5,
    link_queue_s=0.0,
    egress_bytes_s=12.5e9,
    prfaas_queue_s=0.5,
    pdp_queue_s=0.5,
    rate_req_s=2.8,
    link="east→west",
)
HOT = replace(EVEN, link_utilisation=0.94, link_queue_s=0.8)
START = Tuning.start(BEST)


def look(tuning: Tuning, signals: Signals) -> Tuning:
    return retune(tuning, signals, PRFAAS_PD, LENGTHS, PARAMS, n_p=3)


def test_nothing_happens_while_all_is_even() -> None:
    tuning = look(START, EVEN)
    assert (tuning.threshold_tokens, tuning.changed_s, tuning.reason) == (BEST, 0.0, START.reason)


def test_the_best_is_searched_for_anew_when_it_may_have_changed() -> None:
    first = look(START, EVEN)
    assert first.solved is not None
    soon, wide = replace(EVEN, at_s=129.0), replace(EVEN, at_s=129.0, egress_bytes_s=13e9)
    assert look(first, soon).solved is look(first, wide).solved is first.solved
    assert look(first, replace(EVEN, at_s=130.0)).solved is not first.solved
    assert look(first, replace(wide, egress_bytes_s=14e9)).solved is not first.solved
    for deployment, n_p in ((PRFAAS_PD, 4), (replace(PRFAAS_PD, n_prfaas=3), 3)):
        other = retune(first, soon, deployment, LENGTHS, PARAMS, n_p=n_p)
        assert other.best_tokens == solve(deployment, LENGTHS, n_p=n_p).threshold_tokens != BEST


def test_a_full_link_raises_the_threshold_and_says_so() -> None:
    raised = look(START, HOT)
    assert raised.threshold_tokens == round(BEST * 1.25)
    assert (raised.best_tokens, raised.factor, raised.changed_s) == (BEST, 1.25, 100.0)
    assert raised.reason == (
        f"east→west at 94% of 100 Gbit/s, 0.8 s queued: threshold {BEST} → {raised.threshold_tokens}"
    )


@pytest.mark.parametrize(
    ("signals", "factor"),
    [
        # The margin is 1 s and half of the shorter wait: 1.25 s beside 0.5 s.
        (replace(EVEN, prfaas_queue_s=1.7), 1.0),
        (replace(EVEN, prfaas_queue_s=1.8), 1.25),
        (replace(EVEN, pdp_queue_s=1.7), 1.0),
        (replace(EVEN, pdp_queue_s=1.8), 0.8),
        # 4 and 40 times the margin: three steps, and no more than four.
        (replace(EVEN, pdp_queue_s=5.5), 1.25**-3),
        (replace(EVEN, prfaas_queue_s=50.5), 1.25**4),
        # A link that is busy takes no more, and one that is full is still better than a long local queue.
        (replace(EVEN, pdp_queue_s=1.8, link_utilisation=0.75), 1.0),
        (replace(HOT, pdp_queue_s=9.0), 1.0),
        (replace(HOT, pdp_queue_s=0.9), 1.25),
        # 2.0 s remotely and 1.5 s locally: there is no room for more local prompts.
        (replace(HOT, prfaas_queue_s=1.2, pdp_queue_s=1.5), 1.0),
        # Between the marks.
        (replace(EVEN, link_utilisation=0.89, link_queue_s=0.4), 1.0),
    ],
)
def test_what_moves_the_factor(signals: Signals, factor: float) -> None:
    assert look(START, signals).factor == pytest.approx(factor)


def test_margins_are_no_finer_than_a_prompt_or_two() -> None:
    # A remote prompt takes 2.55 s, so 5.1 s of waiting and half of the shorter wait are chance; 0.88 GB take 0.07 s.
    params = RetuneParams()
    for signals, factor in (
        (replace(EVEN, prfaas_queue_s=5.8), 1.0),
        (replace(EVEN, prfaas_queue_s=5.9), 1.25),
        (replace(EVEN, link_queue_s=0.6), 1.25),
    ):
        assert retune(START, signals, PRFAAS_PD, LENGTHS, params, n_p=3).factor == factor
    # At 10 Gbit/s 0.7 s: two may queue.
    slow = replace(START, best_tokens=21_000, threshold_tokens=21_000)
    crowded = replace(EVEN, egress_bytes_s=10e9 / 8, link_queue_s=1.4)
    assert retune(slow, crowded, PRFAAS_PD, LENGTHS, params, n_p=3).factor == 1.0


def test_a_bunch_of_prompts_does_not_make_a_link_full() -> None:
    params = replace(PARAMS, smooth_s=30.0)
    first = retune(START, EVEN, PRFAAS_PD, LENGTHS, params, n_p=3)
    full = replace(EVEN, link_utilisation=1.0)
    # 1 - 0.5 exp(-10/30), and after 49 s 1 - 0.5 exp(-49/30) = 0.90.
    soon = retune(first, replace(full, at_s=110.0), PRFAAS_PD, LENGTHS, params, n_p=3)
    assert soon.factor == 1.0
    assert soon.seen is not None
    assert soon.seen.link_utilisation == pytest.approx(0.6417, abs=1e-4)
    assert retune(soon, replace(full, at_s=149.0), PRFAAS_PD, LENGTHS, params, n_p=3).factor == 1.25


def test_changes_need_time_to_show() -> None:
    raised = look(START, HOT)
    assert look(raised, replace(HOT, at_s=109.0)).factor == 1.25
    assert look(raised, replace(HOT, at_s=110.0)).factor == 1.25**2


def test_a_queue_that_drains_fast_enough_is_left_to() -> None:
    seen = look(START, replace(EVEN, prfaas_queue_s=2.5))
    # 0.1 s less after 10 s: in 30 s it would still be 2.1 s. 0.5 s less: it will be below the margin.
    assert look(seen, replace(EVEN, at_s=110.0, prfaas_queue_s=2.4)).factor == pytest.approx(1.25**2)
    assert look(seen, replace(EVEN, at_s=110.0, prfaas_queue_s=2.0)).factor == pytest.approx(1.25)


def test_a_link_that_is_full_because_its_queue_drains_is_not_too_slow() -> None:
    before = replace(START, seen=replace(HOT, at_s=95.0, link_queue_s=0.4))
    assert look(before, replace(HOT, link_queue_s=0.3)).factor == 1.0
    assert look(before, replace(HOT, link_queue_s=0.4)).factor == 1.25


def test_a_change_of_direction_makes_steps_finer() -> None:
    raised = look(START, HOT)
    lowered = look(raised, replace(EVEN, at_s=110.0, pdp_queue_s=1.8))
    assert (lowered.fineness, lowered.factor) == pytest.approx((1, 1.25 / 1.25**0.5))
    again = look(lowered, replace(EVEN, at_s=120.0, pdp_queue_s=1.8))
    assert (again.fineness, again.factor) == pytest.approx((0, 1.25**0.5 / 1.25))


def test_calm_leads_back_to_the_best() -> None:
    raised = replace(START, threshold_tokens=2 * BEST, factor=2.0, changed_s=90.0)
    assert look(raised, EVEN).factor == 2.0
    back = look(raised, replace(EVEN, at_s=110.0))
    assert back.factor == pytest.approx(2**0.5)
    assert "0.0 s queued, and waits are short: " in back.reason
    # Half the way to 1.19, then all of it.
    assert look(back, replace(EVEN, at_s=130.0)).factor == pytest.approx(2**0.25)
    assert look(look(back, replace(EVEN, at_s=130.0)), replace(EVEN, at_s=150.0)).factor == 1.0
    assert look(replace(raised, factor=0.25), replace(EVEN, at_s=110.0)).factor == pytest.approx(0.5)
    assert look(raised, replace(EVEN, at_s=110.0, link_utilisation=0.75)).factor == 2.0
    assert (
        look(replace(raised, factor=0.5), replace(EVEN, at_s=110.0, prfaas_queue_s=5.0, pdp_queue_s=5.0)).factor == 0.5
    )


def test_a_raised_threshold_comes_back_where_local_prompts_wait_as_long() -> None:
    raised = replace(START, threshold_tokens=2 * BEST, factor=2.0, changed_s=90.0)
    back = look(raised, replace(HOT, at_s=110.0, link_queue_s=5.0, pdp_queue_s=5.0))
    assert back.factor == pytest.approx(2**0.5)
    assert "5.0 s locally, so a higher threshold spares nobody: " in back.reason
    assert look(raised, replace(HOT, at_s=110.0, link_queue_s=9.0, pdp_queue_s=5.0)).factor > 2.0


def test_a_way_back_that_was_wrong_is_tried_less_often() -> None:
    back = replace(START, moved="back", undone=1)
    raised = look(back, HOT)
    assert (raised.factor, raised.undone) == (1.25, 2)
    # 20 s, doubled twice.
    assert look(raised, replace(EVEN, at_s=179.0)).factor == 1.25
    assert look(raised, replace(EVEN, at_s=180.0)).factor == 1.0


def test_the_measured_link_decides_what_is_best() -> None:
    # 5 Gbit/s instead of the 12 that the best threshold of the paper needs.
    slow = replace(EVEN, egress_bytes_s=5e9 / 8)
    tuned = look(START, slow)
    expected = solve(replace(PRFAAS_PD, egress_bytes_s=5e9 / 8), LENGTHS, n_p=3).threshold_tokens
    assert tuned.threshold_tokens == tuned.best_tokens == expected > 1.3 * BEST
    assert tuned.reason.startswith(f"best for 5 Gbit/s and prompts of 27486 tokens on average is {expected}: ")


def test_an_outage_sends_nothing_and_is_not_held_against_the_link() -> None:
    out = look(START, replace(HOT, egress_bytes_s=0.0))
    assert (out.threshold_tokens, out.factor) == (131_072, 1.0)
    assert "nothing gets through east→west" in out.reason
    longer = look(out, replace(HOT, at_s=200.0, egress_bytes_s=0.0))
    assert (longer.threshold_tokens, longer.factor) == (131_072, 1.0)
    assert look(longer, replace(EVEN, at_s=205.0)).threshold_tokens == BEST


def test_no_step_beyond_the_lengths_that_there_are() -> None:
    top = replace(START, threshold_tokens=131_072, factor=131_072 / BEST)
    assert look(top, HOT).factor == top.factor
    bottom = replace(START, threshold_tokens=128, factor=128 / BEST)
    assert look(bottom, replace(EVEN, pdp_queue_s=9.0)).factor == bottom.factor


def test_without_lengths_nothing_changes() -> None:
    tuned = retune(START, HOT, PRFAAS_PD, Recent(100), PARAMS, n_p=3)
    assert tuned == replace(START, seen=HOT)


def steady(gbit_s: float) -> Callable[[float], float]:
    return lambda _: gbit_s * 1e9 / 8


WIDE = steady(100)


@dataclass
class Fluid:
    """Prefill on both sides, and a link, as queues of work into which the rate flows; looked at every five seconds."""

    rate_req_s: float
    egress_bytes_s: Callable[[float], float] = WIDE
    remote_slowdown: float = 1.0
    """What the profile does not know."""
    at_s: float = 0.0
    remote_work_s: float = 0.0
    local_work_s: float = 0.0
    queued_bytes: float = 0.0

    def advance(self, threshold: int, step_s: float = 5.0) -> Signals:
        p = LENGTHS.above(threshold)
        n_prfaas, n_p = PRFAAS_PD.n_prfaas, 3
        remote_s = self.remote_slowdown * PRFAAS_PD.prefill_s(PRFAAS_PD.remote, LENGTHS.mean_above(threshold))
        local_s = PRFAAS_PD.prefill_s(PRFAAS_PD.pd, LENGTHS.mean_below(threshold))
        long_bytes = PRFAAS_PD.remote.kv_bytes(LENGTHS.mean_above(threshold))
        due_s = self.remote_work_s + self.rate_req_s * p * remote_s * step_s
        done_s = min(due_s, n_prfaas * step_s)
        egress = self.egress_bytes_s(self.at_s)
        self.queued_bytes += done_s / remote_s * long_bytes
        sent = min(self.queued_bytes, egress * step_s)
        self.queued_bytes -= sent
        self.remote_work_s = due_s - done_s
        self.local_work_s = max(0.0, self.local_work_s + (self.rate_req_s * (1 - p) * local_s - n_p) * step_s)
        self.at_s += step_s
        return Signals(
            at_s=self.at_s,
            link_utilisation=sent / (egress * step_s) if egress else 1.0,
            link_queue_s=self.queued_bytes / egress if egress else 60.0,
            egress_bytes_s=egress,
            prfaas_queue_s=self.remote_work_s / n_prfaas,
            pdp_queue_s=self.local_work_s / n_p,
            rate_req_s=self.rate_req_s,
        )


def closed_loop(fluid: Fluid, for_s: float) -> list[tuple[Signals, Tuning]]:
    tuning, looks = START, []
    while fluid.at_s < for_s:
        signals = fluid.advance(tuning.threshold_tokens)
        tuning = look(tuning, signals)
        looks.append((signals, tuning))
    return looks


def changes(looks: list[tuple[Signals, Tuning]], since_s: float = 0.0) -> int:
    return len({tuning.changed_s for _, tuning in looks if tuning.changed_s >= max(since_s, 1.0)})


def queue_s(signals: Signals) -> float:
    return max(signals.prfaas_queue_s, signals.pdp_queue_s, signals.link_queue_s)


def test_a_load_that_fits_needs_no_change() -> None:
    assert changes(closed_loop(Fluid(rate_req_s=3.0), 600)) == 0


def test_it_settles_where_remote_prefill_is_slower_than_its_profile() -> None:
    # 2.6 req/s would need 2.6 x 0.49 x 2.55 s x 1.25 = 4.1 of the 4 remote instances; 2.69 req/s are possible.
    looks = closed_loop(Fluid(rate_req_s=2.6, remote_slowdown=1.25), 1800)
    assert looks[-1][1].factor > 1
    assert changes(looks) <= 16
    # The way back is tried less and less often.
    assert changes(looks, since_s=1000) <= 4
    assert max(queue_s(signals) for signals, _ in looks) < 2


def test_it_settles_on_a_link_that_binds() -> None:
    # 1.95 req/s at the planned threshold would be 7.3 Gbit/s.
    looks = closed_loop(Fluid(rate_req_s=1.95, egress_bytes_s=steady(7)), 600)
    assert changes(looks) == 1
    assert max(signals.link_utilisation for signals, _ in looks[4:]) < 0.9
    assert max(queue_s(signals) for signals, _ in looks[4:]) == 0


def test_it_follows_a_link_that_comes_and_goes() -> None:
    # Five minutes of 100 Gbit/s and five of 6, twice; 1.8 req/s are possible with these.
    looks = closed_loop(
        Fluid(rate_req_s=1.75, egress_bytes_s=lambda at_s: 12.5e9 if at_s % 600 < 300 else 6e9 / 8), 1200
    )
    assert changes(looks) == 3
    assert {tuning.threshold_tokens for signals, tuning in looks if 10 < signals.at_s % 600 <= 300} == {BEST}
    assert all(tuning.threshold_tokens > 1.4 * BEST for signals, tuning in looks if signals.at_s % 600 > 310)
    assert max(signals.link_queue_s for signals, _ in looks) < 1


def test_it_recovers_from_an_outage() -> None:
    looks = closed_loop(Fluid(rate_req_s=2.4, egress_bytes_s=lambda at_s: 0.0 if 100 <= at_s < 160 else 12.5e9), 600)
    assert {tuning.threshold_tokens for signals, tuning in looks if 105 <= signals.at_s <= 160} == {131_072}
    # All that came meanwhile waits locally, so for a while even short prompts are sent.
    assert min(tuning.threshold_tokens for _, tuning in looks) < BEST / 4
    assert looks[-1][1].threshold_tokens == BEST
    assert changes(looks) <= 12
    assert queue_s(looks[-1][0]) == 0


def test_what_is_too_much_for_all_does_not_make_it_flap() -> None:
    assert changes(closed_loop(Fluid(rate_req_s=3.6), 600)) == 0
