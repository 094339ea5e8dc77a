"""What to make of a comparison of policies, in a sentence or two. Knows no tables."""

from collections.abc import Sequence

from prfaas.planner.simulate.outcome import Outcome

TIE = 0.01
"""Goodputs that differ by less than this share are called equal."""
BOUND = "oracle"
"""Sees what no router can see: it shows what is possible, and is no choice."""


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """The best policy by goodput, among equals by P90 TTFT, beside the next best and prefill in the local cluster."""
    live = [o for o in outcomes if o.policy != BOUND] or list(outcomes)
    best = max(live, key=lambda o: o.goodput_req_s)
    if best.goodput_req_s <= 0:
        return (
            f"No policy keeps any of {best.requests:,} requests within the objectives: more is asked of this "
            "deployment than it can do, or the objectives are out of reach."
        )
    equals = [o for o in live if o.goodput_req_s >= (1 - TIE) * best.goodput_req_s]
    if len(equals) > 1:
        said = _tie(equals, all_of_them=len(equals) == len(live))
    elif len(live) > 1:
        said = _victory(best, [o for o in live if o is not best])
    else:
        said = _alone(best)
    return " ".join([said, *_possible(best, outcomes)])


def _alone(only: Outcome) -> str:
    return (
        f"{only.policy} answers {only.goodput_req_s:.2f} req/s within the objectives, {_share(only)} of what is asked; "
        f"P90 TTFT {only.ttft_s.p90:.2f} s."
    )


def _victory(best: Outcome, others: Sequence[Outcome]) -> str:
    second = max(others, key=lambda o: o.goodput_req_s)
    named = [second, *(o for o in others if o.policy == "local_only" and o is not second and _comparable(best, o))]
    return (
        f"{best.policy} answers most within the objectives: {best.goodput_req_s:.2f} req/s, {_share(best)} of what is "
        f"asked, {' and '.join(_times(best, other) for other in named)}."
    )


def _comparable(best: Outcome, other: Outcome) -> bool:
    """How many times as good an overloaded deployment's is says nothing."""
    return other.goodput_req_s * 10 >= best.goodput_req_s


def _times(best: Outcome, other: Outcome) -> str:
    if other.goodput_req_s <= 0:
        return f"while {other.policy} answers none"
    ratio = best.goodput_req_s / other.goodput_req_s
    return f"{ratio:,.{2 if ratio < 10 else 0}f} times {other.policy}"


def _tie(equals: Sequence[Outcome], *, all_of_them: bool) -> str:
    quickest = min(equals, key=lambda o: o.ttft_s.p90)
    slowest = max(equals, key=lambda o: o.ttft_s.p90)
    who = "All policies" if all_of_them else _listed([o.policy for o in equals])
    said = (
        f"{who} answer about as much within the objectives ({quickest.goodput_req_s:.2f} req/s, {_share(quickest)} of "
        "what is asked)"
    )
    if slowest.ttft_s.p90 <= (1 + TIE) * quickest.ttft_s.p90:
        return f"{said}, and their P90 TTFT of {quickest.ttft_s.p90:.2f} s is the same."
    return (
        f"{said}; of them {quickest.policy} has the lowest P90 TTFT, {quickest.ttft_s.p90:.2f} s against up to "
        f"{slowest.ttft_s.p90:.2f} s ({slowest.policy})."
    )


def _possible(best: Outcome, outcomes: Sequence[Outcome]) -> list[str]:
    bound = next((o for o in outcomes if o.policy == BOUND and o is not best), None)
    if bound is None or bound.goodput_req_s <= 0:
        return []
    return [f"That is {best.goodput_req_s / bound.goodput_req_s:.1%} of what the oracle, which sees everything, does."]


def _share(outcome: Outcome) -> str:
    offered = outcome.goodput_req_s * outcome.duration_s / outcome.requests
    return f"{min(1.0, offered):.0%}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
