"""The decision about one engine step, as a value."""

from dataclasses import dataclass

from prfaas.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute tokens [start, end) of a sequence; it attends to [0, start) from the cache."""

    sequence: Sequence
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def completes_prompt(self) -> bool:
        return self.end >= self.sequence.request.prompt_tokens

    @property
    def samples(self) -> bool:
        """A token is drawn from the logits of the chunk's last position."""
        return self.completes_prompt


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Decodes (one token each) and prefill chunks that run in one forward pass."""

    decodes: tuple[Chunk, ...]
    prefills: tuple[Chunk, ...]

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """In the order of the packed batch: decodes first."""
        return self.decodes + self.prefills

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)
