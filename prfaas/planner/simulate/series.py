"""A run over time, in buckets of which there are never too many. Knows no jobs and no instances."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prfaas.planner.simulate.histogram import Histogram
from prfaas.planner.simulate.outcome import Series

BUCKET_S = 10.0
MOST_BUCKETS = 1_000
"""With more, two become one."""


@dataclass(slots=True)
class Bucket:
    """What happened in it, and at its end how things stood."""

    arrivals: int = 0
    good: int = 0
    placed: int = 0
    offloaded: int = 0
    ttft_s: Histogram = field(default_factory=Histogram)
    threshold_tokens: float = 0.0
    link_bytes: dict[str, float] = field(default_factory=dict)
    capacity_bytes: dict[str, float] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)

    def take(self, later: "Bucket") -> None:
        """Becomes both."""
        self.arrivals += later.arrivals
        self.good += later.good
        self.placed += later.placed
        self.offloaded += later.offloaded
        self.ttft_s.merge(later.ttft_s)
        self.threshold_tokens = later.threshold_tokens or self.threshold_tokens
        for mine, theirs in ((self.link_bytes, later.link_bytes), (self.capacity_bytes, later.capacity_bytes)):
            for name, num_bytes in theirs.items():
                mine[name] = mine.get(name, 0.0) + num_bytes
        self.waiting = later.waiting or self.waiting


class Buckets:
    """Buckets by time; those that nothing touched are there too, with nothing in them."""

    def __init__(self) -> None:
        self.bucket_s = BUCKET_S
        self._buckets: list[Bucket] = []

    def at(self, time_s: float) -> Bucket:
        index = int(time_s / self.bucket_s)
        while index >= MOST_BUCKETS:
            self._halve()
            index = int(time_s / self.bucket_s)
        while index >= len(self._buckets):
            self._buckets.append(Bucket())
        return self._buckets[index]

    def series(self) -> Series:
        buckets, width = self._buckets, self.bucket_s
        return Series(
            bucket_s=width,
            time_s=tuple(i * width for i in range(len(buckets))),
            arrivals_req_s=tuple(b.arrivals / width for b in buckets),
            goodput_req_s=tuple(b.good / width for b in buckets),
            offloaded_fraction=tuple(b.offloaded / b.placed if b.placed else 0.0 for b in buckets),
            ttft_p90_s=tuple(b.ttft_s.quantiles((0.9,))[0] for b in buckets),
            threshold_tokens=tuple(_kept(b.threshold_tokens for b in buckets)),
            gbit_s=_rates([b.link_bytes for b in buckets], width),
            capacity_gbit_s=_rates([b.capacity_bytes for b in buckets], width),
            waiting_requests={
                name: tuple(float(b.waiting.get(name, 0)) for b in buckets)
                for name in _names([b.waiting for b in buckets])
            },
        )

    def _halve(self) -> None:
        for first, second in zip(self._buckets[::2], self._buckets[1::2], strict=False):
            first.take(second)
        self._buckets = self._buckets[::2]
        self.bucket_s *= 2


def _kept(values: Iterable[float]) -> Iterator[float]:
    """What was true holds until something else is: the run may end before its last bucket is looked at."""
    last = 0.0
    for value in values:
        last = value or last
        yield last


def _names(by_bucket: Sequence[Mapping[str, float]]) -> list[str]:
    return sorted({name for bucket in by_bucket for name in bucket})


def _rates(by_bucket: Sequence[Mapping[str, float]], width_s: float) -> dict[str, tuple[float, ...]]:
    names = _names(by_bucket)
    return {name: tuple(b.get(name, 0.0) * 8e-9 / width_s for b in by_bucket) for name in names}
