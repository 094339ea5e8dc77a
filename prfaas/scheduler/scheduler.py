"""Continuous batching on one instance: admission in order of arrival, decodes first, prefill in shared chunks.

Sequences take pages as they grow. When a decode finds none, the last to arrive gives up its memory, and is computed
again later: what arrived first always goes on, so everything ends. What is cached of a prompt is not computed; a prompt
that another one is just computing waits for it. Knows no tensors and no clock.
"""

from collections.abc import Mapping

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.errors import CapacityError, RequestError
from prfaas.core.ids import BlockHash, RequestId
from prfaas.core.request import FinishReason, Request
from prfaas.scheduler.line import Line
from prfaas.scheduler.memory import SequenceMemory, watermark_pages
from prfaas.scheduler.pace import Pace
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from prfaas.scheduler.shares import MAX_SHARES, Want, divide


class Scheduler:
    """Owns every sequence of the instance and the pages they hold."""

    def __init__(
        self,
        cache: PrefixCache,
        snapshots: SnapshotPolicy,
        *,
        fingerprint: str,
        step_tokens: int,
        max_running: int,
        eos_token_ids: frozenset[int],
        decode_slowdown: float = 2.0,
    ) -> None:
        """`decode_slowdown`: with prefill beside them, decodes take at most so many times as long, on average."""
        self._memory = SequenceMemory(cache, snapshots)
        self._pace = Pace(decode_slowdown)
        self._page_tokens = cache.block_tokens
        self._fingerprint = fingerprint if cache.enabled else None
        self._step_tokens = step_tokens
        self._max_running = max_running
        self._eos_token_ids = eos_token_ids
        self._waiting = Line()
        self._active = Line()
        self._queued_tokens = 0
        self._arrivals = 0
        self._steps = 0
        self._refused: tuple[RequestId, int, tuple[int, int]] | None = None
        """Who did not fit last, and in what circumstances: to look again takes long where much is cached."""

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def waiting_tokens(self) -> int:
        """Tokens that this instance still has to prefill: queued requests and recomputation included."""
        return self._queued_tokens + sum(s.remaining_tokens for s in self._in_phase(Phase.PREFILL))

    @property
    def starved(self) -> bool:
        """Nothing runs, though there are requests that wait for nothing but memory."""
        return not self._active and any(not s.loading for s in self._waiting)

    @property
    def wanted_pages(self) -> int:
        """Pages that the requests which wait will take when they are admitted."""
        return sum(self._memory.pages_for(s.num_tokens) - s.expected_tokens // self._page_tokens for s in self._waiting)

    def names(self, request: Request) -> list[BlockHash]:
        """Of a prompt's whole blocks; none where nothing is cached."""
        if self._fingerprint is None:
            return []
        return block_hashes(
            root_hash(self._fingerprint, request.cache_salt), request.prompt_token_ids, self._page_tokens
        )

    def get(self, request_id: RequestId) -> Sequence | None:
        return self._active.get(request_id) or self._waiting.get(request_id)

    def add(self, request: Request, mode: Mode) -> None:
        """Queues a request. Raises CapacityError if it could never fit, RequestError if its id is in use."""
        sequence = Sequence(request, mode, arrival=self._arrivals)
        needed = self._memory.pages_for(sequence.cached_limit_tokens)
        if needed > self._memory.num_pages:
            raise CapacityError(
                f"{sequence.cached_limit_tokens} tokens need {needed} pages, the pool has {self._memory.num_pages}; "
                "shorten the prompt, lower max_tokens, or raise engine.num_pages"
            )
        if self.get(request.request_id):
            raise RequestError(f"request id {request.request_id} is already in use")
        self._arrivals += 1
        self._enqueue(sequence)

    def admit(self) -> list[Sequence]:
        """Moves waiting requests that fit now, in order; a request that does not fit holds back those behind it.

        One that waits for its prefix, which another computes or a slower tier brings, holds back nobody. A sequence
        that was preempted before comes back here too, with new memory: `sequence.preemptions` tells.
        """
        admitted: list[Sequence] = []
        if not self._waiting:
            return admitted
        ends = dict(end for s in self._active if (end := self._end_computed(s)))
        for sequence in list(self._waiting):
            if len(self._active) >= self._max_running:
                break
            if sequence.loading or self._computed_elsewhere(sequence, ends):
                continue
            if not self._reserve(sequence):
                break
            self._dequeue(sequence.request_id)
            self._active.add(sequence)
            sequence.phase = Phase.RESERVED if sequence.imports_prompt else Phase.PREFILL
            sequence.last_served = self._steps
            admitted.append(sequence)
            if end := self._end_computed(sequence):
                ends[end[0]] = end[1]
        return admitted

    def plan(self) -> StepPlan | None:
        """The next step, within the token budget; None when there is nothing to compute and nothing to tell.

        Fewer requests run than the budget has tokens (the configuration is refused otherwise), so decodes always fit.
        """
        self._steps += 1
        preempted = self._make_room()
        keep_free = self._watermark()
        decodes = tuple([self._decode(s, keep_free) for s in self._in_phase(Phase.DECODE)])
        prefills = self._prefill_chunks(len(decodes), keep_free)
        return StepPlan(decodes, prefills, preempted) if decodes or prefills or preempted else None

    def observe(self, plan: StepPlan, seconds: float) -> None:
        """What the step took from plan to tokens: later steps carry as much prefill as decodes can bear."""
        self._pace.observe(len(plan.decodes), plan.num_prefill_tokens, seconds)

    def commit(self, plan: StepPlan, sampled: Mapping[RequestId, int]) -> list[tuple[Sequence, FinishReason | None]]:
        """Records a finished step. Returns every sequence that drew a token, with the reason if it ended thereby.

        Sequences that ended are released, except exports, which hold their pages until `release`.
        """
        drew = []
        for chunk in plan.chunks:
            sequence = chunk.sequence
            if self._active.get(sequence.request_id) is not sequence:
                continue
            sequence.computed_tokens = chunk.end
            self._memory.computed(sequence, chunk)
            if chunk.samples and sequence.request_id in sampled:
                drew.append((sequence, self._accept(sequence, sampled[sequence.request_id])))
        return drew

    def begin_decode(
        self, request_id: RequestId, first_token_id: int, *, lossy: bool = False
    ) -> tuple[Sequence, FinishReason | None] | None:
        """The KV of a reserved sequence has been committed: it decodes from `first_token_id` on.

        `lossy`: some of it was rounded on its way.
        """
        sequence = self._active.get(request_id)
        if sequence is None or sequence.phase is not Phase.RESERVED:
            return None
        sequence.computed_tokens = sequence.request.prompt_tokens
        self._memory.imported(sequence, lossy=lossy)
        return sequence, self._accept(sequence, first_token_id)

    def prefill_here(self, request_id: RequestId, verified_tokens: int = 0, *, lossy: bool = False) -> range | None:
        """The KV of a reserved sequence will not come, or only its first `verified_tokens`: compute the rest.

        It goes on in its pages behind what arrived, and the tokens that arrived, beyond those held, are returned. If
        nothing of that helps (see `SequenceMemory.keep_arrived`), it goes back into the line with its place by arrival,
        since some of its pages may be the cache's, where nobody writes: admitted again, it gets what it can go on from,
        and pages of its own for the rest.
        """
        sequence = self._active.get(request_id)
        if sequence is None or sequence.phase is not Phase.RESERVED:
            return None
        sequence.import_failed = True
        kept = self._memory.keep_arrived(sequence, verified_tokens, lossy=lossy)
        if kept is None:
            self._send_back(sequence)
        else:
            sequence.phase, sequence.last_served = Phase.PREFILL, self._steps
        return kept

    def invalidate(self, request_id: RequestId) -> None:
        """What was computed of a request is wrong: nobody else may build on it."""
        if sequence := self._active.get(request_id):
            self._memory.forget(sequence, self._active)

    def waiting_for(self, request_id: RequestId, loading: bool) -> None:
        """Marks whether a waiting request's prefix is on its way from a slower tier."""
        if sequence := self._waiting.get(request_id):
            sequence.loading = loading

    def hold(self, request_id: RequestId) -> None:
        """Computes no more of a request, and keeps its memory until `release`."""
        if sequence := self._active.get(request_id):
            sequence.phase = Phase.HELD

    def release(self, request_id: RequestId) -> bool:
        """Forgets a request in any phase and frees what it holds; False if it is unknown."""
        if self._dequeue(request_id):
            return True
        sequence = self._active.pop(request_id)
        if sequence is None:
            return False
        self._memory.free(sequence)
        return True

    def _name_blocks(self, sequence: Sequence) -> None:
        if self._fingerprint is not None:
            sequence.root = root_hash(self._fingerprint, sequence.request.cache_salt)
            sequence.extend_hashes(sequence.num_tokens // self._page_tokens, self._page_tokens)

    def _reserve(self, sequence: Sequence) -> bool:
        keep_free = self._watermark()
        attempt = sequence.request_id, keep_free, self._memory.situation
        if self._active and attempt == self._refused:
            return False
        if self._memory.reserve(sequence, keep_free):
            return True
        self._refused = attempt
        # A snapshot to go on from needs room beside the state itself. Alone, one that has no such room does without.
        return not self._active and self._memory.reserve(sequence, 0, reuse=False)

    def _end_computed(self, sequence: Sequence) -> tuple[BlockHash, int] | None:
        """Where others can go on from what is just computed, its last whole block: its name, and blocks until then."""
        if sequence.phase is not Phase.PREFILL or sequence.private:
            return None
        blocks = (sequence.num_tokens - 1) // self._page_tokens
        return (sequence.hashes[blocks - 1], blocks) if 0 < blocks <= len(sequence.hashes) else None

    def _computed_elsewhere(self, sequence: Sequence, ends: Mapping[BlockHash, int]) -> bool:
        """Somebody is computing a prefix of it to the point where it could go on, and began before it."""
        if sequence.awaited in ends:
            return True
        most = 0 if sequence.imports_prompt else (sequence.num_tokens - 1) // self._page_tokens
        hashes = sequence.hashes[:most]
        sequence.awaited = next((n for n, b in ends.items() if b <= len(hashes) and hashes[b - 1] == n), None)
        return sequence.awaited is not None

    def _enqueue(self, sequence: Sequence) -> None:
        # Of one that comes back its answer's blocks too, which have no names yet if it had ceased to share.
        self._name_blocks(sequence)
        sequence.expected_tokens = self._memory.usable_tokens(sequence)
        self._waiting.add(sequence)
        self._queued_tokens += _prefill_tokens(sequence)

    def _dequeue(self, request_id: RequestId) -> Sequence | None:
        sequence = self._waiting.pop(request_id)
        self._queued_tokens -= _prefill_tokens(sequence) if sequence else 0
        return sequence

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

    def _in_phase(self, phase: Phase) -> list[Sequence]:
        """Of those active, in order of arrival."""
        return [s for s in self._active if s.phase is phase]

    def _watermark(self) -> int:
        return watermark_pages(sum([s.grows for s in self._active]), self._memory.num_pages)

    def _make_room(self) -> tuple[Sequence, ...]:
        """Room for the next token of every decode, the first to arrive first; returns who lost its memory for that."""
        preempted: list[Sequence] = []
        for sequence in self._in_phase(Phase.DECODE):
            while sequence.phase is Phase.DECODE and not self._memory.grow(sequence):
                preempted.append(self._preempt_last())
        return tuple(preempted)

    def _preempt_last(self) -> Sequence:
        """Sends back the last to arrive of those that may be preempted."""
        # The decode that needs room is one of them, so whoever is found came no earlier than that decode.
        sequence = next(s for s in reversed(self._active) if s.preemptible)
        sequence.preemptions += 1
        self._send_back(sequence)
        return sequence

    def _send_back(self, sequence: Sequence) -> None:
        self._active.pop(sequence.request_id)
        self._memory.free(sequence)
        sequence.phase = Phase.WAITING
        self._enqueue(sequence)

    def _decode(self, sequence: Sequence, keep_free: int) -> Chunk:
        start, own = sequence.computed_tokens, sequence.state_pages
        if self._memory.leave_state(sequence, keep_free):
            return Chunk(sequence, start, start + 1, own, sequence.planned_snapshots[-1], leaves_state=True)
        return Chunk(sequence, start, start + 1, own, own)

    def _prefill_chunks(self, num_decodes: int, keep_free: int) -> tuple[Chunk, ...]:
        """Chunks for the prompts that have gone without for longest."""
        turn = sorted(self._in_phase(Phase.PREFILL), key=lambda s: s.last_served)[:MAX_SHARES]
        budget = self._pace.prefill_tokens(num_decodes, self._step_tokens, self._page_tokens) if turn else 0
        if budget == 0:
            return ()
        lengths = divide([Want(s.computed_tokens, s.remaining_tokens) for s in turn], budget, self._page_tokens)
        chunks = []
        for sequence, length in zip(turn, lengths, strict=True):
            if length:
                sequence.last_served = self._steps
                chunks += self._cut_at_snapshots(sequence, sequence.computed_tokens + length, keep_free)
        return tuple(chunks)

    def _cut_at_snapshots(self, sequence: Sequence, end: int, keep_free: int) -> list[Chunk]:
        """What a step computes of one prompt: a chunk to each point where a snapshot is due and has room."""
        chunks, start, source = [], sequence.computed_tokens, sequence.state_source or sequence.state_pages
        for cut in sequence.snapshots_at:
            if not start < cut <= end:
                continue
            pages = self._memory.snapshot(sequence, cut, keep_free)
            if pages is not None:
                chunks.append(Chunk(sequence, start, cut, source, pages))
                start, source = cut, pages
        if start < end:
            chunks.append(Chunk(sequence, start, end, source, sequence.state_pages))
        return chunks


def _prefill_tokens(waiting: Sequence) -> int:
    """Tokens that this instance will compute before the sequence draws its next token, as far as it can tell now."""
    return 0 if waiting.imports_prompt else waiting.num_tokens - waiting.expected_tokens
