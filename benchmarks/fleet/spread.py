"""Mean and quantiles of what requests took."""

from collections.abc import Sequence

from prfaas.planner.simulate.outcome import Spread


def spread(values: Sequence[float]) -> Spread:
    """Nearest rank. All 0 where there are no values."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.9, 0.99)]
    return Spread(sum(ordered) / len(ordered), *at)
