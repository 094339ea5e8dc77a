"""Which transfer's object goes next: tails of finished prefills first, then by deadline, then by arrival.

Knows neither connections nor windows.
"""

import heapq
from itertools import count

from prfaas.transport.delivery import Delivery


class SendQueue:
    """A heap in which entries of transfers that have nothing to send, or another rank by now, are skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[bool, float, int], int, Delivery]] = []
        self._ties = count()

    def offer(self, delivery: Delivery) -> None:
        """The transfer may have something to send, or its rank has changed."""
        rank = delivery.rank
        if delivery.session.has_next and delivery.queued_rank != rank:
            delivery.queued_rank = rank
            heapq.heappush(self._heap, (rank, next(self._ties), delivery))

    def first(self) -> Delivery | None:
        """Whose object goes next."""
        while self._heap:
            rank, _, delivery = self._heap[0]
            if rank == delivery.queued_rank:
                if delivery.session.has_next:
                    return delivery
                delivery.queued_rank = None
            heapq.heappop(self._heap)
        return None
