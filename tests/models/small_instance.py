"""Scheduler, runner and a real model over a small cache in one block of memory, stepped by hand and watched."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.engine.device_pages import DevicePages
from prfaas.engine.disk_moves import DiskMoves
from prfaas.engine.disk_tier import DiskTier
from prfaas.engine.drawer import build_drawer
from prfaas.engine.drawn import Drawn
from prfaas.engine.memory import CacheMemory
from prfaas.engine.model_runner import ModelRunner
from prfaas.engine.page_copies import SharedPages
from prfaas.engine.prefixes import Prefixes
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.cache_tensors import lay_over
from prfaas.models.loader import LoadedModel
from prfaas.scheduler.plan import StepPlan
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from tests.eventually import eventually
from tests.models.page_watch import PageWatch
from tests.models.rig import POISON

NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Exported:
    """A prompt's KV and first token, as another instance would send them: by layer and tensor."""

    first_token_id: int
    tensors: list[list[bytes]]


@dataclass
class SmallInstance:
    """What an engine does without its link; its cache begins as NaN, in no order, and no page is anybody's neighbour.

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
    """Of prefixes."""
    snapshot_every: int = 8
    answer_every: int = 0
    """Snapshots in prompts and in answers."""
    eviction: str = "cost"
    disk: Path | None = None
    """Where prefixes go as well, if anywhere."""
    own_memory: bool = False
    """The model computes elsewhere than others read and write, as on a GPU."""
    preemptions: int = 0
    reused_tokens: int = 0
    reused: dict[str, int] = field(default_factory=dict)
    """By request, when it was first admitted."""
    held: dict[str, int] = field(default_factory=dict)
    """Leading tokens of imports that were not sent."""
    resumed: dict[str, int] = field(default_factory=dict)
    """What those found that had been preempted, by request."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    logits: dict[str, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    """[V] from which each token of an answer was drawn, by its position; none where it was drawn elsewhere."""
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shape = self.model.shape
        layout = lay_out(shape, self.page_tokens)
        self.pool = PagePool(self.pages + (self.states or self.slots) * layout.state_pages)
        _scatter(self.pool)
        num_bytes = layout.num_bytes(self.pool.size)
        block = memoryview(bytearray([POISON]) * num_bytes)
        self.memory = CacheMemory(shape, layout, block)
        own = memoryview(bytearray([POISON]) * num_bytes) if self.own_memory else block
        self.computed = CacheMemory(shape, layout, own)
        computed, shared = (torch.frombuffer(each, dtype=torch.uint8) for each in (own, block))
        self.copies = DevicePages(shape, layout, computed, shared) if self.own_memory else SharedPages()
        self.prefixes = PrefixCache(
            self.pool,
            block_tokens=self.page_tokens,
            state_pages=layout.state_pages,
            eviction=self.eviction,
            enabled=self.reuse,
            record_changes=True,
        )
        self.scheduler = Scheduler(
            self.prefixes,
            SnapshotPolicy(self.page_tokens, self.snapshot_every, self.answer_every),
            fingerprint=self.model.fingerprint,
            step_tokens=self.step_tokens,
            max_running=self.slots,
            eos_token_ids=frozenset({2}),
        )
        cache = lay_over(shape, layout, computed)
        self.runner = ModelRunner(self._forward, cache, build_drawer(Path(), (2,)))
        self.tier = self._open_tier(repr(layout), layout.page_bytes)
        self.moves = Prefixes(self.prefixes, self.tier, time.monotonic, 60.0)
        self.watch = PageWatch(self.prefixes, self.computed)

    def add(self, request: Request, mode: Mode = Mode.SERVE) -> None:
        self.scheduler.add(request, mode)
        sequence = self.scheduler.get(request.request_id)
        assert sequence is not None
        self.moves.arrived(sequence)

    def cancel(self, name: str) -> None:
        assert self.scheduler.release(RequestId(name))
        self.runner.forget(RequestId(name))

    def step(self, imports: Mapping[RequestId, Exported] | None = None) -> StepPlan | None:
        """One step; imports among the newly admitted get what `imports` has of them at once."""
        self.moves.advance()
        for sequence in self.scheduler.admit():
            self.reused_tokens += sequence.cached_tokens
            found = self.resumed if sequence.preemptions else self.reused
            found[sequence.request_id] = sequence.cached_tokens
            if sequence.phase is Phase.RESERVED:
                self._deliver(sequence, (imports or {})[sequence.request_id])
        plan = self.scheduler.plan()
        if plan is None:
            return None
        self.preemptions += len(plan.preempted)
        if plan.chunks:
            self.watch.planned(plan)
            self._commit(plan, self.runner.run(plan, lambda _: None))
        self.watch.rested()
        return plan

    def finish(self, imports: Mapping[RequestId, Exported] | None = None) -> None:
        """Until nothing is left to compute. Nothing is held then but by the cache, and by the disk tier for a while."""
        while self.scheduler.num_active or self.scheduler.num_waiting:
            if self.step(imports) is None:
                # Only a disk can keep everybody waiting.
                assert self.tier is not None
                time.sleep(0)
        assert self.scheduler.waiting_tokens == 0
        if self.tier is None:
            assert self.pool.used == self.prefixes.idle_pages

    def run(self, imports: Mapping[RequestId, Exported] | None = None) -> dict[str, list[int]]:
        """All answers; the cache is empty then."""
        self.finish(imports)
        self.close()
        self.prefixes.check()
        assert self.pool.used == self.prefixes.idle_pages
        self.prefixes.clear()
        assert self.pool.used == 0
        return self.answers

    def settle(self) -> None:
        """Until the disk tier holds no page any more."""
        eventually(self._at_rest)

    def _at_rest(self) -> bool:
        self.moves.advance()
        return self.pool.used == self.prefixes.idle_pages

    def close(self) -> None:
        """Ends the disk tier, after it has stored all that it was given."""
        self.moves.close()
        self.moves.advance()

    def export(self, request: Request) -> Exported:
        """The prompt, prefilled for another instance."""
        self.add(request, Mode.EXPORT)
        while self.step() is not None:
            pass
        sequence = self.scheduler.get(request.request_id)
        assert sequence is not None
        rows = request.prompt_tokens
        self.copies.fetch([*sequence.pages, *sequence.state_pages])
        tensors = [
            [
                b"".join(self.memory.spans(i, j, 0, layer.num_rows(j, rows), sequence.pages, sequence.state_pages))
                for j in range(len(layer.tensors))
            ]
            for i, layer in enumerate(self.model.shape.layers)
        ]
        self.cancel(request.request_id)
        return Exported(sequence.output_token_ids[0], tensors)

    def _open_tier(self, format_key: str, page_bytes: int) -> DiskMoves | None:
        if self.disk is None:
            return None
        tier = DiskTier(
            self.disk,
            limit_bytes=NO_LIMIT,
            fingerprint=self.model.fingerprint,
            format_key=format_key,
            page=self.memory.page,
            wake=lambda: None,
        )
        assert tier.scanned.wait(10)
        return DiskMoves(tier, self.prefixes, page_bytes, self.scheduler.waiting_for, time.monotonic, self.copies)

    def _deliver(self, sequence: Sequence, exported: Exported) -> None:
        """Of the KV only what is not held already; of the states all."""
        self.held[sequence.request_id] = sequence.held_tokens
        for i, layer in enumerate(self.model.shape.layers):
            for j, payload in enumerate(exported.tensors[i]):
                first, rows = (
                    sequence.held_tokens if layer.paged else 0,
                    layer.num_rows(j, sequence.request.prompt_tokens),
                )
                taken = first * layer.row_bytes(j)
                for span in self.memory.spans(i, j, first, rows, sequence.pages, sequence.state_pages):
                    span[:] = payload[taken : taken + span.nbytes]
                    taken += span.nbytes
        held = sequence.held_tokens // self.page_tokens
        self.copies.push([*sequence.pages[held:], *sequence.state_pages])
        begun = self.scheduler.begin_decode(sequence.request_id, exported.first_token_id)
        assert begun is not None
        self._note(*begun)

    def _forward(self, batch: ForwardBatch, cache: CacheTensors, on_layer: LayerDone | None) -> Tensor:
        logits = self.model.decoder.forward(batch, cache, on_layer)
        self._drawn_from = logits.clone()
        return logits

    def _commit(self, plan: StepPlan, drawn: Drawn) -> None:
        assert not drawn.faults
        for chunk, row in zip([c for c in plan.chunks if c.samples], self._drawn_from, strict=True):
            self.logits[chunk.sequence.request_id][chunk.num_outputs] = row
        first = {chunk.sequence.request_id for chunk in plan.prefills if chunk.draws_first_token}
        for sequence, finish in self.scheduler.commit(plan, drawn.tokens):
            if sequence.request_id in first:
                self.moves.prefilled(sequence)
            self._note(sequence, finish)
        for request_id in drawn.not_finite:
            self.failed.add(request_id)
            self.scheduler.invalidate(request_id)
            self.cancel(request_id)

    def _note(self, sequence: Sequence, finish: object) -> None:
        self.answers[sequence.request_id] = list(sequence.output_token_ids)
        if finish is not None:
            self.runner.forget(sequence.request_id)


def _scatter(pool: PagePool) -> None:
    """The free pages in an order that is none."""
    pages = pool.allocate(pool.size)
    assert pages is not None
    pool.release(random.Random(0).sample(pages, len(pages)))
