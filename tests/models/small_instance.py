"""Scheduler, runner and a real model over a small cache in one block of memory, stepped by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.engine.drawer import Drawn, build_drawer
from prfaas.engine.memory import CacheMemory
from prfaas.engine.runner import Runner
from prfaas.models.cache_tensors import map_cache
from prfaas.models.loader import LoadedModel
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from tests.models.rig import POISON


@dataclass(frozen=True)
class Exported:
    """A prompt's KV and first token, as another instance would send them: by layer and tensor."""

    first_token_id: int
    tensors: list[list[bytes]]


@dataclass
class SmallInstance:
    """What an engine does without its link; its cache begins as NaN.

    Runs at most `slots` requests at once. Its pool has `pages` and as many more as `states` requests' states take.
    """

    model: LoadedModel
    pages: int
    slots: int
    states: int | None = None
    """None: `slots`."""
    page_tokens: int = 4
    step_tokens: int = 24
    reuse: bool = False
    """Of prefixes, with snapshots every 8 tokens."""
    preemptions: int = 0
    reused_tokens: int = 0
    answers: dict[str, list[int]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shape = self.model.shape
        layout = lay_out(shape, self.page_tokens)
        self.pool = PagePool(self.pages + (self.states or self.slots) * layout.state_pages)
        block = memoryview(bytearray([POISON]) * layout.num_bytes(self.pool.size))
        self.memory = CacheMemory(shape, layout, block)
        self.prefixes = PrefixCache(
            self.pool, block_tokens=self.page_tokens, state_pages=layout.state_pages, enabled=self.reuse
        )
        self.scheduler = Scheduler(
            self.prefixes,
            SnapshotPolicy(self.page_tokens, every_tokens=8),
            fingerprint=self.model.fingerprint,
            step_tokens=self.step_tokens,
            max_running=self.slots,
            eos_token_ids=frozenset({2}),
        )
        cache = map_cache(shape, layout, block)
        self.runner = Runner(self.model.decoder.forward, cache, build_drawer(Path(), (2,)))

    def add(self, request: Request, mode: Mode = Mode.SERVE) -> None:
        self.scheduler.add(request, mode)

    def cancel(self, name: str) -> None:
        assert self.scheduler.release(RequestId(name))
        self.runner.forget(RequestId(name))

    def step(self, imports: Mapping[RequestId, Exported] | None = None) -> StepPlan | None:
        """One step; imports among the newly admitted get what `imports` has of them at once."""
        for sequence in self.scheduler.admit():
            self.reused_tokens += sequence.cached_tokens
            if sequence.phase is Phase.RESERVED:
                self._deliver(sequence, (imports or {})[sequence.request_id])
        plan = self.scheduler.plan()
        if plan is None:
            return None
        self.preemptions += len(plan.preempted)
        if plan.chunks:
            self._commit(plan, self.runner.run(plan, lambda _: None))
        return plan

    def run(self, imports: Mapping[RequestId, Exported] | None = None) -> dict[str, list[int]]:
        """Until nothing is left: all answers. Nothing is held then but by the cache."""
        while self.scheduler.num_active or self.scheduler.num_waiting:
            self.step(imports)
        self.prefixes.check()
        assert self.pool.used == self.prefixes.idle_pages
        self.prefixes.clear()
        assert self.pool.used == 0
        assert self.scheduler.waiting_tokens == 0
        return self.answers

    def export(self, request: Request) -> Exported:
        """The prompt, prefilled for another instance."""
        self.add(request, Mode.EXPORT)
        while self.step() is not None:
            pass
        sequence = self.scheduler.get(request.request_id)
        assert sequence is not None
        rows = request.prompt_tokens
        tensors = [
            [
                b"".join(self.memory.spans(i, j, 0, layer.num_rows(j, rows), sequence.pages, sequence.state_pages))
                for j in range(len(layer.tensors))
            ]
            for i, layer in enumerate(self.model.shape.layers)
        ]
        self.cancel(request.request_id)
        return Exported(sequence.output_token_ids[0], tensors)

    def _deliver(self, sequence: Sequence, exported: Exported) -> None:
        for i, layer in enumerate(self.model.shape.layers):
            for j, payload in enumerate(exported.tensors[i]):
                taken, rows = 0, layer.num_rows(j, sequence.request.prompt_tokens)
                for span in self.memory.spans(i, j, 0, rows, sequence.pages, sequence.state_pages):
                    span[:] = payload[taken : taken + span.nbytes]
                    taken += span.nbytes
        begun = self.scheduler.begin_decode(sequence.request_id, exported.first_token_id)
        assert begun is not None
        self._note(*begun)

    def _commit(self, plan: StepPlan, drawn: Drawn) -> None:
        assert not drawn.faults
        for sequence, finish in self.scheduler.commit(plan, drawn.tokens):
            self._note(sequence, finish)
        for request_id in drawn.not_finite:
            self.failed.add(request_id)
            self.cancel(request_id)

    def _note(self, sequence: Sequence, finish: object) -> None:
        self.answers[sequence.request_id] = list(sequence.output_token_ids)
        if finish is not None:
            self.runner.forget(sequence.request_id)
