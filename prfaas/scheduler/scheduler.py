"""Continuous batching on one instance: admission in order of arrival, decodes first, prefill in chunks.

Memory is reserved at admission for all that a request can ever cache, so a running request never waits for pages.
"""

from collections import OrderedDict
from collections.abc import Mapping

from prfaas.cache.pool import PagePool
from prfaas.core.errors import CapacityError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.sequence import Mode, Phase, Sequence


class Scheduler:
    """Owns every sequence of the instance and the pages they hold."""

    def __init__(
        self, pages: PagePool, slots: PagePool, *, page_tokens: int, step_tokens: int, eos_token_ids: frozenset[int]
    ) -> None:
        self._pages = pages
        self._slots = slots
        self._page_tokens = page_tokens
        self._step_tokens = step_tokens
        self._eos_token_ids = eos_token_ids
        self._waiting: OrderedDict[RequestId, Sequence] = OrderedDict()
        self._active: OrderedDict[RequestId, Sequence] = OrderedDict()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def waiting_tokens(self) -> int:
        """Prompt tokens that this instance still has to compute, queued requests included."""
        queued = sum(s.request.prompt_tokens for s in self._waiting.values() if s.mode is not Mode.IMPORT)
        return queued + sum(s.remaining_prompt_tokens for s in self._active.values() if s.phase is Phase.PREFILL)

    def get(self, request_id: RequestId) -> Sequence | None:
        return self._active.get(request_id) or self._waiting.get(request_id)

    def add(self, request: Request, mode: Mode) -> None:
        """Queues a request. Raises CapacityError if it could never fit, RequestError if its id is in use."""
        sequence = Sequence(request, mode)
        needed = self._pages_for(sequence)
        if needed > self._pages.size:
            raise CapacityError(
                f"{sequence.cached_limit_tokens} tokens need {needed} pages, the pool has {self._pages.size}; "
                "shorten the prompt, lower max_tokens, or raise engine.num_pages"
            )
        if self.get(request.request_id):
            raise RequestError(f"request id {request.request_id} is already in use")
        self._waiting[request.request_id] = sequence

    def admit(self) -> list[Sequence]:
        """Moves waiting requests that fit now, in order; a request that does not fit holds back those behind it."""
        admitted = []
        for sequence in list(self._waiting.values()):
            if not self._reserve(sequence):
                break
            del self._waiting[sequence.request_id]
            self._active[sequence.request_id] = sequence
            admitted.append(sequence)
        return admitted

    def plan(self) -> StepPlan | None:
        """The next step, within the token budget; None when there is nothing to compute.

        There are fewer slots than budget (the configuration is refused otherwise), so decodes always fit.
        """
        decodes = [
            Chunk(s, s.computed_tokens, s.computed_tokens + 1) for s in self._active.values() if s.phase is Phase.DECODE
        ]
        prefills = self._chunks(self._step_tokens - len(decodes))
        return StepPlan(tuple(decodes), prefills) if decodes or prefills else None

    def commit(self, plan: StepPlan, sampled: Mapping[RequestId, int]) -> list[tuple[Sequence, FinishReason | None]]:
        """Records a finished step. Returns every sequence that drew a token, with the reason if it ended thereby.

        Sequences that ended are released, except exports, which hold their pages until `release`.
        """
        drew = []
        for chunk in plan.chunks:
            sequence = chunk.sequence
            if sequence.request_id not in self._active:
                continue
            sequence.computed_tokens = chunk.end
            if chunk.samples and sequence.request_id in sampled:
                drew.append((sequence, self._accept(sequence, sampled[sequence.request_id])))
        return drew

    def begin_decode(self, request_id: RequestId, first_token_id: int) -> tuple[Sequence, FinishReason | None] | None:
        """The KV of a reserved sequence has been committed: it decodes from `first_token_id` on."""
        sequence = self._active.get(request_id)
        if sequence is None or sequence.phase is not Phase.RESERVED:
            return None
        sequence.computed_tokens = sequence.request.prompt_tokens
        return sequence, self._accept(sequence, first_token_id)

    def prefill_here(self, request_id: RequestId) -> None:
        """The KV of a reserved sequence will not come: compute it in the pages it holds."""
        sequence = self._active.get(request_id)
        if sequence is not None and sequence.phase is Phase.RESERVED:
            sequence.phase = Phase.PREFILL

    def hold(self, request_id: RequestId) -> None:
        """Computes no more of a request, and keeps its memory until `release`."""
        if sequence := self._active.get(request_id):
            sequence.phase = Phase.HELD

    def release(self, request_id: RequestId) -> bool:
        """Forgets a request in any phase and frees what it holds; False if it is unknown."""
        if self._waiting.pop(request_id, None):
            return True
        sequence = self._active.pop(request_id, None)
        if sequence is None:
            return False
        self._pages.release(sequence.pages)
        self._slots.release((sequence.slot,))
        return True

    def _accept(self, sequence: Sequence, token_id: int) -> FinishReason | None:
        sequence.output_token_ids.append(token_id)
        if sequence.mode is Mode.EXPORT:
            sequence.phase = Phase.HELD
            return None
        sequence.phase = Phase.DECODE
        reason = sequence.finish_reason(self._eos_token_ids)
        if reason is not None:
            self.release(sequence.request_id)
        return reason

    def _pages_for(self, sequence: Sequence) -> int:
        return -(-sequence.cached_limit_tokens // self._page_tokens)

    def _reserve(self, sequence: Sequence) -> bool:
        """Pages and a slot together or neither."""
        slot = self._slots.allocate(1)
        if slot is None:
            return False
        pages = self._pages.allocate(self._pages_for(sequence))
        if pages is None:
            self._slots.release(slot)
            return False
        sequence.pages, sequence.slot = pages, slot[0]
        sequence.phase = Phase.RESERVED if sequence.mode is Mode.IMPORT else Phase.PREFILL
        return True

    def _chunks(self, budget: int) -> tuple[Chunk, ...]:
        """Prefill chunks in order of admission; a cut falls on a page boundary unless that would mean no progress."""
        chunks: list[Chunk] = []
        for sequence in self._active.values():
            if sequence.phase is not Phase.PREFILL:
                continue
            length = min(sequence.remaining_prompt_tokens, budget)
            if length < sequence.remaining_prompt_tokens:
                length = length // self._page_tokens * self._page_tokens or (0 if chunks else length)
            if length == 0:
                break
            start = sequence.computed_tokens
            chunks.append(Chunk(sequence, start, start + length))
            budget -= length
        return tuple(chunks)
