"""Sessions of many turns, each of which repeats all that was said before. Knows nothing of how long answers take."""

from collections.abc import Iterator
from math import log
from random import Random

from prfaas.config.deployment import AgenticSection
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival

RAMP_S = 60.0
"""Over which the first sessions begin, evenly at random: all at once would be a burst that nobody asked for."""
SIGMA = 1.0


class AgenticWorkload:
    """A closed loop of so many sessions: what comes, and when, depends on when answers end.

    A session's lengths and pauses are drawn by a generator of its own, so that every policy meets the same sessions in
    the same order in each of the places, though at other times. Of each place one generator is held, and no history.
    """

    def __init__(self, section: AgenticSection, *, output_tokens: int, rng: Random) -> None:
        self._section = section
        self._output_tokens = output_tokens
        self._rng = rng
        self._seed = rng.getrandbits(64)
        self._next_number = 0
        self._sessions: dict[int, Random] = {}
        self._shared_ids = section.shared_tokens // ID_TOKENS
        self._ids_per_session = (section.max_tokens + output_tokens) // ID_TOKENS + 1

    def arrivals(self) -> Iterator[Arrival]:
        """The first turn of each place's first session."""
        starts = sorted(self._rng.uniform(0, RAMP_S) for _ in range(self._section.sessions))
        for session, at_s in enumerate(starts):
            yield self._first(session, at_s)

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:
        """The session's next turn, or the next session's first, after a pause."""
        rng = self._sessions[arrival.session]
        at_s += rng.expovariate(1 / self._section.think_s) if self._section.think_s else 0.0
        tokens = arrival.prompt_tokens + arrival.output_tokens + self._draw(rng, self._section.added_tokens)
        if rng.random() < 1 / self._section.turns or tokens > self._section.max_tokens:
            del self._sessions[arrival.session]
            return self._first(arrival.session + self._section.sessions, at_s)
        return self._turn(arrival.session, at_s, tokens)

    def _first(self, session: int, at_s: float) -> Arrival:
        rng = self._sessions[session] = Random(f"{self._seed} {session}")
        tokens = self._draw(rng, self._section.first_tokens)
        return self._turn(session, at_s, min(tokens, self._section.max_tokens))

    def _turn(self, session: int, at_s: float, tokens: int) -> Arrival:
        whole, with_answer = tokens // ID_TOKENS, (tokens + self._output_tokens) // ID_TOKENS
        names = self._names(session, with_answer)
        self._next_number += 1
        return Arrival(self._next_number - 1, at_s, tokens, self._output_tokens, names[:whole], session, names[whole:])

    def _names(self, session: int, num_ids: int) -> tuple[int, ...]:
        own = self._shared_ids + session * self._ids_per_session
        return tuple(i if i < self._shared_ids else own + i for i in range(num_ids))

    @staticmethod
    def _draw(rng: Random, median_tokens: int) -> int:
        return max(1, round(rng.lognormvariate(log(median_tokens), SIGMA)))
