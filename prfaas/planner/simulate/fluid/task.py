"""What an instance does for one job, and what it holds for it. Does not know what runs beside it."""

from dataclasses import dataclass

from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import ID_TOKENS
from prfaas.planner.simulate.job import Job
from prfaas.scheduler.sequence import Mode, Phase


@dataclass(slots=True, eq=False)
class Task:
    """Mutable; a preempted task does not exist here: its answer's pages are taken with its prompt's."""

    job: Job
    mode: Mode
    number: int
    """Tasks of this instance that came before it."""
    prompt_tokens: int
    names: tuple[BlockHash, ...]
    """Of the prompt's blocks that others may share."""
    phase: Phase = Phase.WAITING
    imports_prompt: bool = False
    """Its KV comes from elsewhere."""
    expected_tokens: int = 0
    """What it seemed, when it began to wait, that would have to be computed of it."""
    pages: tuple[int, ...] = ()
    """In the order of the blocks; the first may be others' too."""
    duplicates: tuple[int, ...] = ()
    """Pages of the cache with the same content as some of `pages`; held so that the chain below stays."""
    state_pages: tuple[int, ...] = ()
    source_pages: tuple[int, ...] = ()
    """Of the snapshot that it went on from."""
    snapshots_at: tuple[int, ...] = ()
    """Tokens after which a snapshot is to be left while it prefills."""
    last_snapshot: int = 0
    """Tokens after which the deepest snapshot that it took, or began from, was taken."""
    named_blocks: int = 0
    """Leading blocks that the cache holds on this task's behalf."""
    computed_tokens: int = 0
    cached_tokens: int = 0
    begun: bool = False
    """Its first chunk was."""
    last_served: int = 0
    """The step that last computed something of its prompt, or before which it was admitted."""
    joined_step: int = 0
    """Of the batch, before its first step in it."""
    ends_step: int = -1
    """Of the batch, after which it has its last token."""

    @property
    def usable_blocks(self) -> int:
        """Of its names, up to which another prompt could go on from what it computes; one token is always computed."""
        return min(len(self.names), (self.prompt_tokens - 1) // ID_TOKENS)

    @property
    def remaining_tokens(self) -> int:
        """Of the prompt."""
        return self.prompt_tokens - self.computed_tokens

    @property
    def total_tokens(self) -> int:
        """That this instance must hold at its end."""
        return self.prompt_tokens + (0 if self.mode is Mode.EXPORT else self.job.arrival.output_tokens)

    @property
    def grows(self) -> bool:
        """Counts for the watermark, as a live sequence that will ask for more pages does."""
        return self.mode is not Mode.EXPORT
