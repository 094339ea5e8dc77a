"""The decision about one engine step, as a value. Does not know how it was made."""

from dataclasses import dataclass, field

from prfaas.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute tokens [start, end) of a sequence; it attends to [0, start) from the cache.

    What a chunk says of itself holds before and after the step's commit.
    """

    sequence: Sequence
    start: int
    end: int
    state_from: tuple[int, ...] = ()
    """Pages from which the linear states at `start` are read; never read where `start` is 0."""
    state_to: tuple[int, ...] = ()
    """Pages into which those at `end` are written: the sequence's own, or a snapshot that nobody writes again."""
    leaves_state: bool = False
    """The states at `start` stay in `state_from` as a snapshot; `state_to` is the sequence's own from then on."""
    num_outputs: int = field(init=False)
    """Output tokens that the sequence had when the step was planned."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_outputs", len(self.sequence.output_token_ids))

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def completes_prompt(self) -> bool:
        """The prompt's last token is computed here; a resumed sequence does this once more."""
        return self.start < self.sequence.request.prompt_tokens <= self.end

    @property
    def samples(self) -> bool:
        """A token is drawn from the logits of the chunk's last position."""
        return self.end == self.sequence.request.prompt_tokens + self.num_outputs

    @property
    def draws_first_token(self) -> bool:
        """The request's first output token is drawn here: true once in its life, however often it is resumed."""
        return self.samples and self.num_outputs == 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Decodes (one token each) and prefill chunks that run in one forward pass."""

    decodes: tuple[Chunk, ...]
    prefills: tuple[Chunk, ...]
    preempted: tuple[Sequence, ...] = ()
    """They lost their memory to make room for this step, and wait again; the plan may consist of nothing else."""

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """In the order of the packed batch: decodes first."""
        return self.decodes + self.prefills

    @property
    def num_prefill_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.prefills)

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + self.num_prefill_tokens
