"""The latest placements as `GET /fleet` shows them; what has not changed since the last look is not made again."""

from collections.abc import Sequence

from prfaas.gateway.fleet_reply import PlacementReply
from prfaas.gateway.placement_log import Placed

REQUEST_CHARACTERS = 20
"""Of a request's id: enough to find it in a log."""


class PlacementReplies:
    """Remembers those of the last look."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Placed, PlacementReply]] = {}

    def of(self, rows: Sequence[Placed], offset_s: float) -> list[PlacementReply]:
        """In their order. `offset_s`: Unix time less the router's clock."""
        known = self._last
        self._last = {row.number: (row, _kept(known.get(row.number), row) or _reply(row, offset_s)) for row in rows}
        return [reply for _, reply in self._last.values()]


def _kept(known: tuple[Placed, PlacementReply] | None, row: Placed) -> PlacementReply | None:
    return known[1] if known and known[0] is row else None


def _reply(row: Placed, offset_s: float) -> PlacementReply:
    placement = row.placement
    expected, moved = placement.expected, placement.cache_transfer
    return PlacementReply(
        number=row.number,
        request=row.request_id[:REQUEST_CHARACTERS],
        unix_s=round(row.at_s + offset_s, 1),
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.prompt_tokens - placement.uncached_tokens,
        decision=row.decision,
        prefill=(placement.prefill or placement.decode).instance_id,
        decode=placement.decode.instance_id,
        reason=placement.reason,
        expected_ttft_s=None if expected is None else round(expected.ttft_s, 4),
        ttft_s=None if row.ttft_s is None else round(row.ttft_s, 4),
        outcome=row.outcome,
        code=row.code,
        attempt=row.attempt,
        cache_from=moved.source.instance_id if moved else None,
    )
