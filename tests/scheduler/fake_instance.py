"""A scheduler with its pools, a cache that remembers who wrote what, and a model whose tokens depend on all before.

It stands for the engine and the network, and checks every plan as it goes: a token that is computed into the wrong
page, read after its page went to another, skipped or drawn twice changes an answer or fails an assertion.
"""

import zlib
from collections import Counter

from prfaas.cache.pool import PagePool
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from prfaas.scheduler.shares import MAX_SHARES

PAGE = 4
EOS = 9
_VOCAB = 40


def request(name: str, prompt: int, max_tokens: int = 1, *, ignore_eos: bool = False) -> Request:
    sampling = SamplingParams(max_tokens=max_tokens, ignore_eos=ignore_eos)
    return Request(RequestId(name), tuple(range(prompt)), sampling)


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


class FakeInstance:
    """Runs steps on demand; what it drew and who ended is in its dictionaries."""

    def __init__(self, pages: int = 16, slots: int = 4, step_tokens: int = 8) -> None:
        self.pages, self.slots = PagePool(pages), PagePool(slots, "state slot")
        self.step_tokens = step_tokens
        self.scheduler = Scheduler(
            self.pages, self.slots, page_tokens=PAGE, step_tokens=step_tokens, eos_token_ids=frozenset({EOS})
        )
        self.answers: dict[str, list[int]] = {}
        self.ended: dict[str, FinishReason] = {}
        self.first_draws: Counter[str] = Counter()
        self.preemptions: Counter[str] = Counter()
        self._cache: dict[tuple[int, int], tuple[str, int, int]] = {}
        self._states: dict[int, tuple[str, int, int]] = {}

    def add(
        self, name: str, prompt: int, max_tokens: int = 1, mode: Mode = Mode.SERVE, *, ignore_eos: bool = True
    ) -> None:
        self.scheduler.add(request(name, prompt, max_tokens, ignore_eos=ignore_eos), mode)
        self.answers[name] = []

    def get(self, name: str) -> Sequence:
        sequence = self.scheduler.get(RequestId(name))
        assert sequence is not None
        return sequence

    def step(self, seconds: float | None = None) -> StepPlan | None:
        """Admits, plans, computes, commits."""
        self.scheduler.admit()
        plan = self.plan()
        if plan is None:
            return None
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
        assert len(plan.prefills) <= MAX_SHARES
        computing = [chunk.sequence for chunk in plan.chunks]
        assert len(set(computing)) == len(computing)
        for sequence in plan.preempted:
            self.preemptions[sequence.request_id] += 1
            assert sequence not in computing
            assert (sequence.phase, sequence.pages, sequence.computed_tokens) == (Phase.WAITING, (), 0)
            assert sequence.mode is not Mode.EXPORT
        if oldest is not None and oldest not in computing:
            assert oldest in plan.preempted
            assert not any(s.preemptible and s.arrival > oldest.arrival for s in self.scheduler._active)
        return plan

    def deliver(self, name: str) -> None:
        """The KV of an import arrives and is committed."""
        sequence = self.get(name)
        prompt = sequence.request.prompt_token_ids
        self._write(sequence, 0, prompt)
        begun = self.scheduler.begin_decode(RequestId(name), next_token(prompt))
        assert begun is not None
        self._drew(*begun)

    def release(self, name: str) -> None:
        assert self.scheduler.release(RequestId(name))
        assert not self.scheduler.release(RequestId(name))

    def check_memory(self) -> None:
        """Nothing is shared, nothing is lost."""
        self.pages.check()
        self.slots.check()
        active = list(self.scheduler._active)
        held = [page for s in active for page in s.pages]
        assert len(set(held)) == len(held) == self.pages.used
        assert len({s.slot for s in active}) == len(active) == self.slots.used
        assert [s.arrival for s in active] == sorted(s.arrival for s in active)
        waiting = list(self.scheduler._waiting)
        assert all(s.pages == () for s in waiting)
        queued = sum(s.num_tokens for s in waiting if not s.imports_prompt)
        prefilling = sum(s.remaining_tokens for s in active if s.phase is Phase.PREFILL)
        assert self.scheduler.waiting_tokens == queued + prefilling

    def empty(self) -> bool:
        self.check_memory()
        return self.pages.used == self.slots.used == self.scheduler.num_active == self.scheduler.num_waiting == 0

    def _compute(self, chunk: Chunk) -> int:
        """One chunk of the forward pass: reads everything before it, writes itself."""
        sequence = chunk.sequence
        assert chunk.start == sequence.computed_tokens < chunk.end <= sequence.num_tokens
        before = sequence.tokens(0, chunk.start)
        for i, token in enumerate(before):
            place = sequence.pages[i // PAGE], i % PAGE
            assert self._cache[place] == (sequence.request_id, sequence.preemptions, token)
        if chunk.start:
            assert self._states[sequence.slot] == (sequence.request_id, sequence.preemptions, chunk.start)
        self._write(sequence, chunk.start, sequence.tokens(chunk.start, chunk.end))
        return next_token(sequence.tokens(0, chunk.end))

    def _write(self, sequence: Sequence, start: int, tokens: tuple[int, ...]) -> None:
        for i, token in enumerate(tokens, start):
            place = sequence.pages[i // PAGE], i % PAGE
            self._cache[place] = (sequence.request_id, sequence.preemptions, token)
        self._states[sequence.slot] = (sequence.request_id, sequence.preemptions, start + len(tokens))

    def _drew(self, sequence: Sequence, reason: FinishReason | None) -> None:
        self.answers[sequence.request_id].append(sequence.output_token_ids[-1])
        if reason is not None:
            self.ended[sequence.request_id] = reason
