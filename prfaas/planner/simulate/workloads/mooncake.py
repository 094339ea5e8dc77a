"""Requests of a Mooncake trace, whose ids say which prompts begin alike. Knows nothing of where they go."""

from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path
from random import Random
from typing import Annotated

import msgspec

from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival
from prfaas.planner.simulate.workloads.pace import Pace
from prfaas.planner.simulate.workloads.trace_file import numbered_lines, trace_fault

BUCKET_MS = 3000
"""Published timestamps stand on a grid of so many..."""
OFF_GRID_MS = 5
"""...give or take so many."""

Count = Annotated[int, msgspec.Meta(ge=1)]


class MooncakeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. Equal ids at equal places, after equal ids, mean equal tokens: 512 each, or fewer the last."""

    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    """Milliseconds."""
    input_length: Count
    output_length: Count
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


def read_mooncake(path: Path) -> Iterator[MooncakeRecord]:
    """One record at a time, in order of time. Raises ConfigError that names file, line and what to change."""
    decoder = msgspec.json.Decoder(MooncakeRecord)
    before_ms = 0.0
    for number, line in numbered_lines(path):
        try:
            record = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wanted = "give JSON lines with timestamp, input_length, output_length and hash_ids, and no other field"
            raise trace_fault(path, number, f"{error}; {wanted}") from None
        needed = -(-record.input_length // ID_TOKENS)
        if len(record.hash_ids) != needed:
            raise trace_fault(
                path,
                number,
                f"{len(record.hash_ids)} hash_ids for {record.input_length} tokens; give one for every {ID_TOKENS} "
                f"tokens, the last may be partial: {needed}",
            )
        if record.timestamp < before_ms:
            raise trace_fault(
                path, number, f"timestamp {record.timestamp:g} after {before_ms:g}; sort the lines by timestamp"
            )
        before_ms = record.timestamp
        yield record


class MooncakeWorkload:
    """A trace from its first bucket of 3 s on. One that has ended begins anew, later in time and with ids of its own.

    All requests of a bucket bear the time of its beginning; they are spread over it, evenly at random, in the order of
    the file. A trace with finer times keeps them. The id of a last, partial block is left out, and no answer's blocks
    are named: the trace does not tell which tokens of a later prompt were an answer.
    """

    def __init__(self, path: Path, *, rate_scale: float, pace: Pace, rng: Random) -> None:
        self._path = path
        self._rate_scale = rate_scale
        self._pace = pace
        self._rng = rng

    def arrivals(self) -> Iterator[Arrival]:
        numbers = count()
        begin_ms, first_id = 0.0, 0
        while True:
            end_ms, next_id = begin_ms, first_id
            for at_ms, record in self._spread():
                ids = record.hash_ids[: record.input_length // ID_TOKENS]
                next_id = max(next_id, first_id + max(record.hash_ids) + 1)
                end_ms = begin_ms + at_ms
                yield Arrival(
                    next(numbers),
                    self._pace.at_s(end_ms / 1000 / self._rate_scale),
                    record.input_length,
                    record.output_length,
                    tuple(first_id + i for i in ids) if first_id else ids,
                )
            begin_ms = (end_ms // BUCKET_MS + 1) * BUCKET_MS
            first_id = next_id

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:  # noqa: ARG002 - sessions answer to it
        return None

    def _spread(self) -> Iterator[tuple[float, MooncakeRecord]]:
        """With milliseconds since the first bucket's beginning. Holds one bucket at a time."""
        first: int | None = None
        for bucket, records in groupby(read_mooncake(self._path), _bucket):
            first = bucket if first is None else first
            yield from self._within((bucket - first) * BUCKET_MS, bucket * BUCKET_MS, list(records))

    def _within(
        self, start_ms: float, traced_ms: float, records: list[MooncakeRecord]
    ) -> list[tuple[float, MooncakeRecord]]:
        draws = iter(sorted(self._rng.uniform(0, BUCKET_MS) for _ in records))
        timed = []
        for record in records:
            after_ms = record.timestamp - traced_ms
            timed.append((start_ms + (next(draws) if after_ms <= OFF_GRID_MS else after_ms), record))
        return sorted(timed, key=lambda pair: pair[0])


def _bucket(record: MooncakeRecord) -> int:
    return int((record.timestamp + OFF_GRID_MS) // BUCKET_MS)
