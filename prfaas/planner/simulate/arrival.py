"""Requests as a workload makes them. Knows nothing of where they go."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

ID_TOKENS = 512
"""Tokens that one of `Arrival.blocks` stands for, as in Mooncake's traces."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. Equal `blocks` from the start on mean equal tokens; a last partial one is not listed, as a trace
    gives it another name in the next turn."""

    number: int
    """Unique, rising in order of arrival within a run."""
    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """At most prompt_tokens // 512; () for a prompt that shares nothing with any other."""
    session: int = -1
    """Of closed-loop workloads."""
    answer_blocks: tuple[int, ...] = ()
    """Names of the blocks that prompt and answer together fill beyond `blocks`, where a later turn will begin so."""


class Workload(Protocol):
    """Endless or not; the simulation takes as many as it needs."""

    def arrivals(self) -> Iterator[Arrival]:
        """Those that do not depend on answers, in order of time. Lazy: memory does not grow with their number."""
        ...

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:
        """What the end of an answer brings about: the session's next turn, at `at_s` or later; None: nothing."""
        ...
