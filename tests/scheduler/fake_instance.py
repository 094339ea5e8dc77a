"""A scheduler with its pools, a cache that remembers who wrote what, and a model whose tokens depend on all before.

It stands for the engine and the network, and checks every plan as it goes: a token that is computed into the wrong
page or into one that others hold, read after its page went to another, skipped or drawn twice changes an answer or
fails an assertion, and so does a state that is read where another prefix left it.
"""

import zlib
from collections import Counter

from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.engine.prefix_moves import PrefixMoves
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from prfaas.scheduler.shares import MAX_SHARES

PAGE = 4
EOS = 9
_VOCAB = 40


def request(
    name: str, prompt: int | tuple[int, ...], max_tokens: int = 1, *, ignore_eos: bool = False, salt: str = ""
) -> Request:
    """`prompt`: its tokens, or how many of them."""
    sampling = SamplingParams(max_tokens=max_tokens, ignore_eos=ignore_eos)
    tokens = tuple(range(prompt)) if isinstance(prompt, int) else prompt
    return Request(RequestId(name), tokens, sampling, salt)


def next_token(tokens: tuple[int, ...]) -> int:
    """The model."""
    return zlib.crc32(repr(tokens).encode()) % _VOCAB


def whole_answer(asked: Request) -> list[int]:
    """What the model says when nothing interrupts it."""
    answer: list[int] = []
    while len(answer) < asked.sampling.max_tokens:
        answer.append(next_token((*asked.prompt_token_ids, *answer)))
        if answer[-1] == EOS and not asked.sampling.ignore_eos:
            break
    return answer


def digest(sequence: Sequence, tokens: int) -> bytes:
    """What a cache entry or a state depends on: all tokens before it, and whose they are."""
    return zlib.crc32(repr((sequence.request.cache_salt, sequence.tokens(0, tokens))).encode()).to_bytes(4, "big")


class FakeInstance:
    """Runs steps on demand; what it drew and who ended is in its dictionaries."""

    def __init__(
        self,
        pages: int = 16,
        slots: int = 4,
        step_tokens: int = 8,
        *,
        cached: bool = False,
        state_pages: int = 0,
        snapshot_every: int = 0,
        answer_every: int = 0,
    ) -> None:
        """`slots`: how many run at once. Nothing is reused unless `cached`."""
        self.pages, self.slots, self.step_tokens = PagePool(pages), slots, step_tokens
        self.cache = PrefixCache(self.pages, block_tokens=PAGE, state_pages=state_pages, enabled=cached)
        self.scheduler = Scheduler(
            self.cache,
            SnapshotPolicy(PAGE, snapshot_every, answer_every),
            fingerprint="model",
            step_tokens=step_tokens,
            max_running=slots,
            eos_token_ids=frozenset({EOS}),
        )
        self.moves = PrefixMoves(self.cache, self.scheduler.names, lambda: self.scheduler.wanted_pages)
        self.answers: dict[str, list[int]] = {}
        self.ended: dict[str, FinishReason] = {}
        self.first_draws: Counter[str] = Counter()
        self.preemptions: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self._written: dict[tuple[int, int], bytes] = {}
        self._states: dict[tuple[int, ...], bytes] = {}

    def add(
        self,
        name: str,
        prompt: int | tuple[int, ...],
        max_tokens: int = 1,
        mode: Mode = Mode.SERVE,
        *,
        ignore_eos: bool = True,
        salt: str = "",
    ) -> None:
        self.scheduler.add(request(name, prompt, max_tokens, ignore_eos=ignore_eos, salt=salt), mode)
        self.answers[name] = []

    def get(self, name: str) -> Sequence:
        sequence = self.scheduler.get(RequestId(name))
        assert sequence is not None
        return sequence

    def step(self, seconds: float | None = None) -> StepPlan | None:
        """Admits, plans, computes, commits."""
        for sequence in self.scheduler.admit():
            self.reused[sequence.request_id] += sequence.cached_tokens
        plan = self.plan()
        if plan is None:
            return None
        self._done: dict[str, int] = {}
        drawn = {chunk.sequence.request_id: self._compute(chunk) for chunk in plan.chunks}
        for chunk in plan.chunks:
            self.first_draws[chunk.sequence.request_id] += chunk.draws_first_token
        if seconds is not None:
            self.scheduler.observe(plan, seconds)
        drew = self.scheduler.commit(plan, drawn)
        assert [s for s, _ in drew] == [c.sequence for c in plan.chunks if c.samples]
        for sequence, reason in drew:
            self._drew(sequence, reason)
        self.check_memory()
        return plan

    def plan(self) -> StepPlan | None:
        """The next plan, checked for what holds of every plan."""
        oldest = next((s for s in self.scheduler._active if s.phase is Phase.DECODE), None)
        plan = self.scheduler.plan()
        if plan is None:
            return None
        assert plan.num_tokens <= self.step_tokens
        computing = [chunk.sequence for chunk in plan.chunks]
        assert len({s.request_id for s in computing if s.phase is Phase.PREFILL}) <= MAX_SHARES
        for sequence in plan.preempted:
            self.preemptions[sequence.request_id] += 1
            assert sequence not in computing
            assert (sequence.phase, sequence.pages, sequence.computed_tokens) == (Phase.WAITING, (), 0)
            assert sequence.mode is not Mode.EXPORT
        if oldest is not None and oldest not in computing:
            assert oldest in plan.preempted
            assert not any(s.preemptible and s.arrival > oldest.arrival for s in self.scheduler._active)
        return plan

    def deliver(self, name: str, *, lossy: bool = False) -> None:
        """The KV of an import arrives, as far as it was not there, and is committed."""
        sequence = self.get(name)
        prompt = sequence.request.prompt_token_ids
        self._check_read(sequence, sequence.held_tokens)
        self._write(sequence, sequence.held_tokens, len(prompt), sequence.state_pages)
        begun = self.scheduler.begin_decode(RequestId(name), next_token(prompt), lossy=lossy)
        assert begun is not None
        self._drew(*begun)

    def fail(self, name: str, arrived: int, *, lossy: bool = False) -> range | None:
        """The first `arrived` tokens of an import lie in their place, and nothing more comes."""
        sequence = self.get(name)
        self._write_tokens(sequence, sequence.held_tokens, arrived)
        return self.scheduler.prefill_here(RequestId(name), arrived, lossy=lossy)

    def lend(self, asked: Request) -> None:
        """A prefix is held to be sent elsewhere: all of it is as its tokens say. Raises as `PrefixMoves.lend`."""
        lent = self.moves.lend(asked)
        whole = Sequence(asked, Mode.EXPORT, pages=lent.pages)
        self._check_read(whole, asked.prompt_tokens)
        if self.cache.state_pages:
            assert self._states[lent.state_pages] == digest(whole, asked.prompt_tokens)

    def reserve(self, asked: Request) -> bool:
        """Memory for a prefix from elsewhere; False: all of it is here. Raises as `PrefixMoves.reserve`."""
        free, wanted = self.cache.available, self.scheduler.wanted_pages
        admitted = self.moves.reserve(asked)
        if admitted.cached_tokens == asked.prompt_tokens:
            assert self.cache.available == free
            return False
        assert self.cache.available >= wanted
        self._check_read(Sequence(asked, Mode.IMPORT, pages=admitted.pages), admitted.held_tokens)
        return True

    def arrive(self, asked: Request, *, lossy: bool) -> bool:
        """The reserved prefix has come, as far as it was not there, and is kept if it can be."""
        move = self.moves._coming[asked.request_id]
        whole = Sequence(asked, Mode.IMPORT, pages=move.pages, state_pages=move.state_pages)
        self._write(whole, move.held * PAGE, asked.prompt_tokens, move.state_pages)
        kept = self.moves.keep(asked.request_id, lossy=lossy)
        self.moves.release(asked.request_id)
        return bool(kept)

    def release(self, name: str) -> None:
        assert self.scheduler.release(RequestId(name))
        assert not self.scheduler.release(RequestId(name))

    def check_memory(self) -> None:
        """Nothing is lost, and nothing that somebody writes is shared."""
        self.pages.check()
        self.cache.check()
        active = list(self.scheduler._active)
        coming = list(self.moves._coming.values())
        own = [page for s in active for page in (*s.pages[s.named_blocks :], *s.state_pages)]
        own += [page for move in coming for page in (*move.pages[move.held :], *move.state_pages)]
        assert len(set(own)) == len(own)
        assert all(self.pages.refs(page) == 1 for page in own)
        held = {p for s in active for p in (*s.pages, *s.duplicates, *s.state_pages, *s.state_source)}
        held |= {p for move in (*coming, *self.moves._lent.values()) for p in (*move.pages, *move.state_pages)}
        assert len(held) == self.pages.used - self.cache.idle_pages
        assert len(active) <= self.slots
        assert [s.arrival for s in active] == sorted(s.arrival for s in active)
        waiting = list(self.scheduler._waiting)
        assert all(s.pages == s.state_pages == s.state_source == () for s in waiting)
        queued = sum(s.num_tokens - s.expected_tokens for s in waiting if not s.imports_prompt)
        prefilling = sum(s.remaining_tokens for s in active if s.phase is Phase.PREFILL)
        assert self.scheduler.waiting_tokens == queued + prefilling

    def empty(self) -> bool:
        self.check_memory()
        self.cache.clear()
        return self.pages.used == self.scheduler.num_active == self.scheduler.num_waiting == 0

    def _compute(self, chunk: Chunk) -> int:
        """One chunk of the forward pass: reads everything before it, writes itself."""
        sequence = chunk.sequence
        done = self._done.setdefault(sequence.request_id, sequence.computed_tokens)
        assert chunk.start == done < chunk.end <= sequence.num_tokens
        self._done[sequence.request_id] = chunk.end
        self._check_read(sequence, chunk.start)
        if chunk.start and self.cache.state_pages:
            assert self._states[chunk.state_from] == digest(sequence, chunk.start)
        self._write(sequence, chunk.start, chunk.end, chunk.state_to)
        return next_token(sequence.tokens(0, chunk.end))

    def _check_read(self, sequence: Sequence, end: int) -> None:
        for i in range(end):
            assert self._written[sequence.pages[i // PAGE], i % PAGE] == digest(sequence, i + 1)

    def _write_tokens(self, sequence: Sequence, start: int, end: int) -> None:
        for i in range(start, end):
            page = sequence.pages[i // PAGE]
            assert self.pages.refs(page) == 1
            self._written[page, i % PAGE] = digest(sequence, i + 1)

    def _write(self, sequence: Sequence, start: int, end: int, state_to: tuple[int, ...]) -> None:
        self._write_tokens(sequence, start, end)
        assert all(self.pages.refs(page) == 1 for page in state_to)
        self._states[state_to] = digest(sequence, end)

    def _drew(self, sequence: Sequence, reason: FinishReason | None) -> None:
        self.answers[sequence.request_id].append(sequence.output_token_ids[-1])
        if reason is not None:
            self.ended[sequence.request_id] = reason
