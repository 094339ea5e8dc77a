"""By how much a live run is smaller than what it stands for. Knows neither fleets nor files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scales:
    """All three leave times to the first token, in the case study's seconds, as they are."""

    time: float
    """Seconds of the case study in one of ours."""
    kv: float
    """Our bytes of KV and states for one of the case study's."""
    output: int
    """Tokens of an answer that one of ours stands for: answers are so many times shorter, and decode steps so many
    times longer, so that an answer keeps its place as long as it should. A token costs CPU in four processes."""

    @property
    def link(self) -> float:
        """Our Gbit/s for one of the case study's."""
        return self.time * self.kv
