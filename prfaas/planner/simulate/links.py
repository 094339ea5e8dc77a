"""One direction of a link: a queue of bytes that leaves at the link's capacity. Knows no jobs, and no policies.

Our transport sends what is due first, and never lets the link idle while anything waits. Here bytes leave in the order
in which they came, which moves as many bytes a second, and the same ones where deadlines are alike. A prompt's KV is
poured in while it is made, at a steady rate; what is left, and the states, follow in one lump.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

from prfaas.planner.simulate.capacity import Capacity
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.shipment import Shipment


class SimulatedLink:
    """Bytes are conserved: `in_bytes == out_bytes + cancelled_bytes + queued_bytes` at any moment."""

    def __init__(self, loop: EventLoop, source: str, target: str, capacity: Capacity) -> None:
        self.source, self.target, self.capacity = source, target, capacity
        self.in_bytes = 0.0
        self.out_bytes = 0.0
        self.cancelled_bytes = 0.0
        self.queued_bytes = 0.0
        self.saturated_s = 0.0
        """Time in which it carried all that it could, outages excluded..."""
        self.saturated_bytes = 0.0
        """...and what it carried then."""
        self.last_byte_s = 0.0
        self._loop = loop
        self._at_s = 0.0
        self._inflow_bytes_s = 0.0
        self._pours: list[tuple[float, int, Shipment]] = []
        self._pouring = 0
        self._number = count()
        self._active: dict[Shipment, None] = {}

    def open(self, arrived: Callable[[], None]) -> Shipment:
        """A new shipment; `arrived()` is called a round trip after its last byte left, once it has been closed."""
        shipment = Shipment(arrived)
        self._active[shipment] = None
        return shipment

    def add(self, shipment: Shipment, num_bytes: float) -> None:
        """So many bytes at once."""
        if num_bytes > 0:
            self.advance()
            start = self._tail
            self.in_bytes += num_bytes
            self.queued_bytes += num_bytes
            shipment.pieces.append([start, self._tail, num_bytes])
            shipment.sent_bytes += num_bytes

    def pour(self, shipment: Shipment, num_bytes: float, for_s: float) -> None:
        """So many bytes, evenly over the seconds that follow; those that have not come when it is closed never do."""
        if num_bytes <= 0 or for_s <= 0:
            return
        self.advance()
        shipment.pour_bytes_s = num_bytes / for_s
        shipment.pour_start_s = self._at_s
        shipment.pour_from = self._tail
        self._inflow_bytes_s += shipment.pour_bytes_s
        self._pouring += 1
        heappush(self._pours, (self._at_s + for_s, next(self._number), shipment))

    def close(self, shipment: Shipment, total_bytes: float) -> None:
        """Nothing comes after what it lacks of `total_bytes`."""
        self.advance()
        self._stop(shipment, self._at_s)
        self.add(shipment, total_bytes - shipment.sent_bytes)
        shipment.ends_at = self._tail
        self._expect(shipment)

    def cancel(self, shipment: Shipment) -> None:
        """What still waits of it does not cross, and leaves `sent_bytes`; what came after it arrives earlier."""
        if shipment not in self._active:
            return
        self.advance()
        self._stop(shipment, self._at_s)
        del self._active[shipment]
        shipment.version += 1
        for start, end, num_bytes in reversed(shipment.pieces):
            if end > max(start, self.out_bytes):
                shipment.sent_bytes -= self._drop(max(start, self.out_bytes), end, num_bytes / (end - start))

    def missing_bytes(self, shipment: Shipment) -> float:
        """What must still leave until all of a closed shipment has, others' bytes before it included."""
        self.advance()
        return max(0.0, shipment.ends_at - self.out_bytes)

    def advance(self) -> None:
        """Brings the queue up to now."""
        now_s = self._loop.now_s
        while self._pours and self._pours[0][0] <= now_s:
            end_s, _, shipment = heappop(self._pours)
            if shipment.pour_bytes_s:
                self._flow(end_s)
                self._stop(shipment, end_s)
        if now_s > self._at_s:
            self._flow(now_s)

    @property
    def _tail(self) -> float:
        """Where in the order of bytes the next one comes, those that were cancelled left out."""
        return self.out_bytes + self.queued_bytes

    def _flow(self, until_s: float) -> None:
        while self._at_s < until_s:
            change_s = inf if self.capacity.constant else self.capacity.next_change_s(self._at_s)
            end_s = min(until_s, change_s)
            self._flow_evenly(end_s - self._at_s, self.capacity.bytes_s(self._at_s))
            self._at_s = end_s

    def _flow_evenly(self, for_s: float, capacity_bytes_s: float) -> None:
        inflow = self._inflow_bytes_s
        came = inflow * for_s
        if capacity_bytes_s > inflow and self.queued_bytes <= (capacity_bytes_s - inflow) * for_s:
            full_s = self.queued_bytes / (capacity_bytes_s - inflow)
            left = self.queued_bytes + came
            self.queued_bytes = 0.0
        elif self.queued_bytes or inflow:
            full_s, left = for_s, capacity_bytes_s * for_s
            self.queued_bytes = max(0.0, self.queued_bytes + came - left)
        else:
            return
        self.in_bytes += came
        self.out_bytes += left
        if left:
            self.last_byte_s = self._at_s + (for_s if inflow else full_s)
            self.saturated_s += full_s
            self.saturated_bytes += full_s * capacity_bytes_s

    def _stop(self, shipment: Shipment, at_s: float) -> None:
        """Ends a pour, if there is one; the queue has been brought up to `at_s`."""
        if shipment.pour_bytes_s:
            num_bytes = (at_s - shipment.pour_start_s) * shipment.pour_bytes_s
            self._pouring -= 1
            self._inflow_bytes_s = self._inflow_bytes_s - shipment.pour_bytes_s if self._pouring else 0.0
            shipment.pour_bytes_s = 0.0
            shipment.sent_bytes += num_bytes
            if self._tail > shipment.pour_from:
                shipment.pieces.append([shipment.pour_from, self._tail, num_bytes])

    def _expect(self, shipment: Shipment) -> None:
        shipment.version += 1
        left_s = self.capacity.when(self._at_s, shipment.ends_at - self.out_bytes)
        if left_s < inf:
            self._loop.at(left_s + self.capacity.rtt_s(left_s), self._arrived, shipment, shipment.version)

    def _arrived(self, shipment: Shipment, version: int) -> None:
        if version == shipment.version:
            self.advance()
            del self._active[shipment]
            shipment.arrived()

    def _drop(self, start: float, end: float, density: float) -> float:
        """Takes one shipment's share of the bytes out of what waits between two places of the order."""
        dropped = min(density * (end - start), self.queued_bytes)
        self.cancelled_bytes += dropped
        self.queued_bytes -= dropped
        for other in self._active:
            before = other.ends_at
            other.shift(start, end, dropped)
            if other.ends_at < before:
                self._expect(other)
        return dropped
