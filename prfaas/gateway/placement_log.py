"""The latest placements with their reasons, and what became of them. Bounded; knows no JSON, its clock is injected."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.gateway.hit_rates import HitRates
from prfaas.policy.view import Placement

KEPT = 200
"""Placements."""
TTFTS = 1024
"""Times to the first token, so that a second of many requests costs no more than one of few."""
WINDOW_S = 60.0

Outcome = Literal["running", "done", "failed"]
Decision = Literal["remote", "local", "decode"]
"""Where the prompt is prefilled: in another cluster, on a prefill instance at home, or where it is decoded."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One request, as it was placed last."""

    number: int
    """Of all placements of this router, from 1."""
    request_id: RequestId
    at_s: float
    """On the router's clock."""
    prompt_tokens: int
    placement: Placement
    attempt: int = 1
    """2: placed again after a failure."""
    ttft_s: float | None = None
    """From the request's arrival; None: no token came yet."""
    outcome: Outcome = "running"
    code: str = ""
    """Of the error that it failed with, or that made the decode instance prefill it; empty: neither."""

    @property
    def decision(self) -> Decision:
        if self.placement.prefill is None:
            return "decode"
        return "remote" if self.placement.remote else "local"


class PlacementLog:
    """Written for every request, so everything here takes a microsecond or two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest: dict[RequestId, Placed] = {}
        self._ttfts: deque[tuple[float, float]] = deque(maxlen=TTFTS)
        self.hits = HitRates()
        self.placed_requests = 0
        """Since the start, second attempts included..."""
        self.remote_requests = 0
        """...and those of them that went to another cluster."""

    def placed(self, request: Request, placement: Placement) -> None:
        """A request was sent to its instances, perhaps not for the first time."""
        before = self._latest.pop(request.request_id, None)
        self.placed_requests += 1
        self.remote_requests += placement.remote
        self._latest[request.request_id] = Placed(
            self.placed_requests,
            request.request_id,
            self._clock(),
            request.prompt_tokens,
            placement,
            before.attempt + 1 if before else 1,
        )
        if len(self._latest) > KEPT:
            del self._latest[next(iter(self._latest))]

    def first_token(self, request_id: RequestId, ttft_s: float) -> None:
        """`ttft_s`: from its arrival."""
        self._ttfts.append((self._clock(), ttft_s))
        if row := self._latest.get(request_id):
            self._latest[request_id] = replace(row, ttft_s=ttft_s)

    def ended(self, request: Request, placement: Placement, account: pb.Account | None) -> None:
        """Its answer is complete; with the account of it, if that came."""
        if account:
            predicted = request.prompt_tokens - placement.uncached_tokens
            self.hits.add(account.prefill_instance, request.prompt_tokens, predicted, account.tokens_reused)
        if row := self._latest.get(request.request_id):
            code = account.fallback if account else ""
            self._latest[request.request_id] = replace(row, outcome="done", code=code)

    def failed(self, request_id: RequestId, code: str) -> None:
        """It ended without a complete answer. What was never placed is not here, and changes nothing."""
        if row := self._latest.get(request_id):
            self._latest[request_id] = replace(row, outcome="failed", code=code)

    def latest(self) -> list[Placed]:
        """The last one last, up to `KEPT`."""
        return list(self._latest.values())

    def ttft_s(self, *shares: float) -> list[float | None]:
        """Quantiles of the last `WINDOW_S`, or of its latest `TTFTS` requests; None where there were none."""
        since_s = self._clock() - WINDOW_S
        while self._ttfts and self._ttfts[0][0] < since_s:
            self._ttfts.popleft()
        times = sorted(ttft_s for _, ttft_s in self._ttfts)
        return [times[min(int(share * len(times)), len(times) - 1)] if times else None for share in shares]
