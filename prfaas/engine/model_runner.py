"""Turns a step plan into one forward pass and its drawn tokens. Knows no requests but those in the plan."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from prfaas.core.clock import Clock
from prfaas.core.ids import RequestId
from prfaas.engine.drawer import Drawer
from prfaas.engine.drawn import Drawn
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.scheduler.plan import StepPlan

Forward = Callable[[ForwardBatch, CacheTensors, LayerDone | None], Tensor]
"""A decoder's forward pass: logits [S, V] fp32 for the batch's `logit_rows`."""


class DeviceError(Exception):
    """The device that the model computes on is of no use to this process any more: the engine must end."""


class ModelRunner:
    """Model, cache tensors, and the drawing of tokens."""

    def __init__(self, forward: Forward, cache: CacheTensors, drawer: Drawer, clock: Clock = time.monotonic) -> None:
        self._forward = forward
        self._cache = cache
        self._drawer = drawer
        self._clock = clock
        self.forward_seconds = 0.0
        self.late_s: float | None = None

    def run(self, plan: StepPlan, on_layer: LayerDone) -> Drawn:
        """Computes every chunk, and draws for each sequence whose prompt is complete. Raises DeviceError."""
        for chunk in plan.chunks:
            self._drawer.prepare(chunk.sequence)
        with torch.inference_mode():
            batch = _batch(plan).to(self._cache.device)
            started = self._clock()
            logits = self._compute(batch, on_layer)
            self.forward_seconds = self._clock() - started
            return self._drawer.draw(logits, [chunk.sequence for chunk in plan.chunks if chunk.samples])

    def _compute(self, batch: ForwardBatch, on_layer: LayerDone) -> Tensor:
        try:
            return self._forward(batch, self._cache, on_layer).cpu()  # waits for a device
        except torch.AcceleratorError as error:
            # After a fault in a kernel every later call fails as well, whosever request it serves.
            raise DeviceError(f"a step failed on {self._cache.device}: {error}") from error

    def rest(self) -> None:
        """Nothing to do."""

    def forget(self, request_id: RequestId) -> None:
        """Frees what is kept for a request from step to step; unknown ids are ignored."""
        self._drawer.forget(request_id)


def _batch(plan: StepPlan) -> ForwardBatch:
    chunks = plan.chunks
    table = _padded([chunk.sequence.pages for chunk in chunks])
    state_to = _padded([chunk.state_to for chunk in chunks])
    stay = all(chunk.state_from == chunk.state_to or chunk.start == 0 for chunk in chunks)
    ends = torch.tensor([chunk.num_tokens for chunk in chunks]).cumsum(0)
    rows = [i for i, chunk in enumerate(chunks) if chunk.samples]
    return ForwardBatch(
        token_ids=torch.tensor([t for c in chunks for t in c.sequence.tokens(c.start, c.end)]),
        query_lens=tuple(chunk.num_tokens for chunk in chunks),
        context_lens=tuple(chunk.start for chunk in chunks),
        block_table=table,
        state_from=state_to if stay else _padded([chunk.state_from for chunk in chunks]),
        state_to=state_to,
        continues=tuple(i > 0 and chunk.sequence is chunks[i - 1].sequence for i, chunk in enumerate(chunks)),
        num_decodes=len(plan.decodes),
        logit_rows=ends[rows] - 1,
    )


def _padded(rows: list[tuple[int, ...]]) -> Tensor:
    """Page ids [B, longest] int64; what follows a shorter row is page 0."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64)
