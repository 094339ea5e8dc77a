"""One request on one instance: its phase, the memory it holds, the tokens it has. Does not know what runs beside it."""

from dataclasses import dataclass, field
from enum import Enum, auto

from prfaas.cache.hashing import block_hashes
from prfaas.core.ids import BlockHash, RequestId
from prfaas.core.request import FinishReason, Request


class Mode(Enum):
    """What this instance does for the request."""

    SERVE = auto()
    """Prefill and decode."""
    IMPORT = auto()
    """Decode; the prompt's KV comes from elsewhere."""
    EXPORT = auto()
    """Prefill; the KV goes elsewhere."""


class Phase(Enum):
    """WAITING → (RESERVED →) PREFILL → DECODE, or PREFILL → HELD for an export.

    Preemption leads back to WAITING, and so does an import that failed.
    """

    WAITING = auto()
    """Holds nothing: not admitted yet, or preempted."""
    RESERVED = auto()
    """Holds pages that another instance fills."""
    PREFILL = auto()
    DECODE = auto()
    HELD = auto()
    """Prefilled; pages stay until the receiver has them."""


_PREEMPTIBLE = (Phase.PREFILL, Phase.DECODE)
_GROWING = (Phase.RESERVED, *_PREEMPTIBLE)


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of a request; only the scheduler changes it."""

    request: Request
    mode: Mode
    phase: Phase = Phase.WAITING
    root: BlockHash | None = None
    """What the names of its blocks begin with; None where nothing is cached."""
    hashes: list[BlockHash] = field(default_factory=list)
    """Names of its whole blocks, as far as they have been worked out; empty where nothing is cached."""
    pages: tuple[int, ...] = ()
    """In the order of the tokens; grows by one whenever a decode enters a new page. The first may be others' too."""
    duplicates: tuple[int, ...] = ()
    """Pages of the cache with the same content as some of `pages`; held so that the chain below stays."""
    state_pages: tuple[int, ...] = ()
    """Hold its linear states; it alone writes them."""
    state_source: tuple[int, ...] = ()
    """Pages of a snapshot from which its next chunk begins, or nothing where that is its own state."""
    snapshots_at: tuple[int, ...] = ()
    """Tokens after which a snapshot is to be taken while it prefills."""
    last_snapshot: int = 0
    """Tokens after which the deepest snapshot that it took, or began from, was taken."""
    answer_snapshot: BlockHash | None = None
    """The block at whose end it last took one while it decoded."""
    planned_snapshots: list[tuple[int, ...]] = field(default_factory=list)
    """Pages of the snapshots that the step under way writes, or of its state from then on."""
    named_blocks: int = 0
    """Leading blocks that the cache holds on this sequence's behalf."""
    computed_tokens: int = 0
    """Tokens whose KV and state are in this instance's cache."""
    private: bool = False
    """Shares no more of what it computes, since something that it built on proved wrong."""
    cached_tokens: int = 0
    """Leading tokens that were there when it was admitted, and are not computed."""
    held_tokens: int = 0
    """Leading tokens whose KV was there: for an import those that need not be sent."""
    lossy_tokens: int = 0
    """Leading ones of `held_tokens` up to the last block that was rounded on its way here from elsewhere."""
    lossy_state: bool = False
    """Its linear states stem from some that were."""
    verified_tokens: int = 0
    """Tokens behind those held whose KV came from elsewhere before the rest failed to, and is not computed here."""
    expected_tokens: int = 0
    """What it seemed, when it began to wait, that it would find."""
    output_token_ids: list[int] = field(default_factory=list)
    arrival: int = 0
    """Requests of this instance that came before it."""
    preemptions: int = 0
    """Times that it lost its memory; an admission with more than none is a resumption."""
    import_failed: bool = False
    """Its KV did not come from elsewhere."""
    loading: bool = False
    """What a slower tier has of it is on its way, and worth waiting for."""
    awaited: BlockHash | None = None
    """The block at whose end another request's prefill ends, which it waited for when it was last looked at."""
    last_served: int = 0
    """The step that last computed something of its prefill, or before which it was admitted."""

    @property
    def request_id(self) -> RequestId:
        return self.request.request_id

    @property
    def num_tokens(self) -> int:
        """Prompt and output drawn so far: what a prefill computes, so that its last position draws the next token."""
        return self.request.prompt_tokens + len(self.output_token_ids)

    @property
    def remaining_tokens(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return max(0, self.num_tokens - self.computed_tokens)

    @property
    def cached_limit_tokens(self) -> int:
        """Tokens that this instance must be able to cache for the request at its end."""
        return self.request.prompt_tokens if self.mode is Mode.EXPORT else self.request.max_total_tokens

    @property
    def imports_prompt(self) -> bool:
        """Its KV comes from elsewhere; once preempted it is recomputed here, as nobody sends it twice."""
        return self.mode is Mode.IMPORT and self.preemptions == 0 and not self.import_failed

    @property
    def preemptible(self) -> bool:
        """Nobody but this instance touches its memory, so it can be taken away."""
        return self.phase in _PREEMPTIBLE and self.mode is not Mode.EXPORT

    @property
    def grows(self) -> bool:
        """Holds memory and will ask for more of it."""
        return self.phase in _GROWING and self.mode is not Mode.EXPORT

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Token ids [start, end) of prompt and output together, in time proportional to their number."""
        prompt = self.request.prompt_token_ids
        if end <= len(prompt):
            return prompt[start:end]
        return (*prompt[start:], *self.output_token_ids[max(0, start - len(prompt)) : end - len(prompt)])

    def extend_hashes(self, num_blocks: int, block_tokens: int) -> None:
        """Names its first `num_blocks` blocks, which it must have, as far as they have no names yet."""
        known = len(self.hashes)
        if known < num_blocks:
            assert self.root is not None
            tokens = self.tokens(known * block_tokens, num_blocks * block_tokens)
            self.hashes += block_hashes(self.hashes[-1] if known else self.root, tokens, block_tokens)

    def finish_reason(self, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """Why generation ends with the last output token, if it does."""
        last = self.output_token_ids[-1]
        sampling = self.request.sampling
        if last in sampling.stop_token_ids or (last in eos_token_ids and not sampling.ignore_eos):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self.output_token_ids) >= sampling.max_tokens else None
