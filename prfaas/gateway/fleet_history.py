"""Ten minutes of what the fleet did, a sample a second, in bounded memory. Knows no clock but the one it is given."""

from collections import deque
from collections.abc import Iterable

import msgspec

from prfaas.gateway.placement_log import PlacementLog
from prfaas.policy.view import LinkView

SAMPLE_S = 1.0
KEPT = 600
RATE_S, SHARE_S = 10, 60
"""Over which requests/s and the offloaded share are worked out: samples, since there is one a second."""


class LinkSample(msgspec.Struct, frozen=True):
    """`utilisation`: share of `bytes_per_s` in use, 0 to 1. `queued_s`: what is queued takes so long."""

    source: str
    target: str
    utilisation: float
    queued_s: float
    bytes_per_s: float


class Sample(msgspec.Struct, frozen=True):
    """One second. `offloaded_share`: of the last minute's requests, those prefilled in another cluster; TTFT of the
    last minute's first tokens. Null: there were none."""

    unix_s: float
    threshold_tokens: int
    requests_s: float
    offloaded_share: float | None
    ttft_p50_s: float | None
    ttft_p90_s: float | None
    waiting: int
    links: list[LinkSample]


class FleetHistory:
    """To be told once a second."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._counts: deque[tuple[float, int, int]] = deque(maxlen=SHARE_S + 1)
        """(when, placed, remote), of the last minute."""

    @property
    def samples(self) -> list[Sample]:
        """The latest last."""
        return list(self._samples)

    @property
    def latest(self) -> Sample | None:
        return self._samples[-1] if self._samples else None

    def add(
        self, unix_s: float, threshold_tokens: int, placements: PlacementLog, waiting: int, links: Iterable[LinkView]
    ) -> Sample:
        """What is true now; returned as it is kept."""
        placed, remote = placements.placed_requests, placements.remote_requests
        self._counts.append((unix_s, placed, remote))
        _, placed_then, remote_then = self._counts[0]
        p50_s, p90_s = placements.ttft_s(0.5, 0.9)
        sample = Sample(
            unix_s=round(unix_s, 3),
            threshold_tokens=threshold_tokens,
            requests_s=self._requests_s(),
            offloaded_share=round((remote - remote_then) / (placed - placed_then), 4) if placed > placed_then else None,
            ttft_p50_s=p50_s and round(p50_s, 4),
            ttft_p90_s=p90_s and round(p90_s, 4),
            waiting=waiting,
            links=[_link(link) for link in links],
        )
        self._samples.append(sample)
        return sample

    def _requests_s(self) -> float:
        then_s, placed_then, _ = self._counts[max(0, len(self._counts) - 1 - RATE_S)]
        now_s, placed, _ = self._counts[-1]
        return round((placed - placed_then) / (now_s - then_s), 3) if now_s > then_s else 0.0


def _link(link: LinkView) -> LinkSample:
    return LinkSample(
        link.source, link.target, round(link.utilisation, 3), round(link.queued_s, 3), round(link.bytes_per_s)
    )
