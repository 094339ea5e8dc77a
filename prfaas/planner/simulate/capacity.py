"""What a link carries at any moment, from its section of the deployment file. Knows nothing of what crosses it."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from math import inf

from prfaas.config.deployment import PlannedLinkSection

EFFICIENCY = 0.94
"""Share of a link's rate that is payload: what Ethernet, IP, TCP and our frames leave of full-size packets."""
BYTES_PER_GBIT = 1e9 / 8
LEAST_S = 1e-9


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start_s` of a period on, until the next begins."""

    start_s: float
    bytes_s: float
    """Of payload; 0: an outage."""
    rtt_s: float


class Capacity:
    """A piecewise constant rate, once or over and over again; integrals of it both ways.

    What is lost is sent again, so that `loss` takes just its share: the congestion control is taken to be one that
    does not read every loss as congestion.
    """

    def __init__(self, section: PlannedLinkSection) -> None:
        self._stretches = stretches(section)
        self._starts = [stretch.start_s for stretch in self._stretches]
        self._period_s = section.repeat_s if section.timeline else None
        self._before = [0.0]
        """Bytes of a period until each of its stretches begins."""
        for this, after in zip(self._stretches, self._starts[1:], strict=False):
            self._before.append(self._before[-1] + (after - this.start_s) * this.bytes_s)
        last = self._stretches[-1]
        self._period_bytes = self._before[-1] + ((self._period_s or 0.0) - last.start_s) * last.bytes_s
        self.constant = len(self._stretches) == 1 and last.bytes_s > 0
        self.ever_down = any(stretch.bytes_s == 0 for stretch in self._stretches)

    def bytes_s(self, at_s: float) -> float:
        """The rate at a moment; 0 in an outage."""
        return self._stretch(at_s)[1].bytes_s

    def rtt_s(self, at_s: float) -> float:
        return self._stretch(at_s)[1].rtt_s

    def next_change_s(self, at_s: float) -> float:
        """When the rate at `at_s` ends to hold; infinite where it holds for good."""
        offset_s, _ = self._stretch(at_s)
        index = bisect_right(self._starts, at_s - offset_s)
        if index < len(self._starts):
            change_s = offset_s + self._starts[index]
        else:
            change_s = inf if self._period_s is None else offset_s + self._period_s
        # Where a sum is rounded down to `at_s` itself, time would stand still.
        return max(change_s, at_s + LEAST_S)

    def carried(self, start_s: float, end_s: float) -> float:
        """Bytes that can cross between two moments."""
        if self.constant:
            return (end_s - start_s) * self._stretches[0].bytes_s
        return self._until(end_s) - self._until(start_s)

    def when(self, start_s: float, num_bytes: float) -> float:
        """When so many bytes have crossed, from `start_s` on; infinite where they never will."""
        if num_bytes <= 0:
            return start_s
        if self.constant:
            return start_s + num_bytes / self._stretches[0].bytes_s
        return max(start_s, self._reached(self._until(start_s) + num_bytes))

    def down_since(self, at_s: float) -> float | None:
        """When the outage began that goes on at `at_s`; None: there is none."""
        since_s, first = None, True
        while at_s > 0 or first:
            first = False
            offset_s, stretch = self._stretch(at_s)
            if stretch.bytes_s:
                return since_s
            since_s = offset_s + stretch.start_s
            # A timeline that repeats may begin with the outage that it ends with.
            at_s = since_s - 1e-6
        return since_s

    def _stretch(self, at_s: float) -> tuple[float, Stretch]:
        """When its period began, and the stretch."""
        if self.constant:
            return 0.0, self._stretches[0]
        offset_s = at_s // self._period_s * self._period_s if self._period_s else 0.0
        index = max(bisect_right(self._starts, at_s - offset_s) - 1, 0)
        return offset_s, self._stretches[index]

    def _until(self, at_s: float) -> float:
        """Bytes since time 0."""
        periods, rest_s = divmod(at_s, self._period_s) if self._period_s else (0.0, at_s)
        index = bisect_right(self._starts, rest_s) - 1
        stretch = self._stretches[index]
        return periods * self._period_bytes + self._before[index] + (rest_s - stretch.start_s) * stretch.bytes_s

    def _reached(self, target_bytes: float) -> float:
        """The first moment by which so many bytes crossed since time 0."""
        offset_s = 0.0
        if self._period_s:
            if not self._period_bytes:
                return inf
            periods, target_bytes = divmod(target_bytes, self._period_bytes)
            offset_s = periods * self._period_s
        index = max(bisect_left(self._before, target_bytes) - 1, 0)
        stretch, rest = self._stretches[index], target_bytes - self._before[index]
        if rest <= 0:
            return offset_s + stretch.start_s
        return offset_s + stretch.start_s + rest / stretch.bytes_s if stretch.bytes_s else inf


def stretches(section: PlannedLinkSection) -> list[Stretch]:
    """The timeline as rates; what is described outside of it holds until its first change."""
    gbit_s, rtt_ms, loss, up = section.gbit_s, section.rtt_ms, section.loss, True
    found = [_stretch(0.0, gbit_s, rtt_ms, loss, up)]
    for change in section.timeline:
        gbit_s = gbit_s if change.gbit_s is None else change.gbit_s
        rtt_ms = rtt_ms if change.rtt_ms is None else change.rtt_ms
        loss = loss if change.loss is None else change.loss
        up = up if change.up is None else change.up
        if found[-1].start_s == change.at_s:
            found.pop()
        found.append(_stretch(change.at_s, gbit_s, rtt_ms, loss, up))
    return found


def _stretch(at_s: float, gbit_s: float, rtt_ms: float, loss: float, up: bool) -> Stretch:
    return Stretch(at_s, gbit_s * BYTES_PER_GBIT * EFFICIENCY * (1 - loss) if up else 0.0, rtt_ms / 1e3)
