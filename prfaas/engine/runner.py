"""Turns a step plan into one forward pass and its drawn tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from prfaas.core.ids import RequestId
from prfaas.engine.sampler import Draw, sample
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.scheduler.plan import Chunk, StepPlan

Forward = Callable[[ForwardBatch, CacheTensors, LayerDone | None], Tensor]
"""A decoder's forward pass: logits [S, V] fp32 for the batch's `logit_rows`."""


class Runner:
    """Model plus cache tensors."""

    def __init__(self, forward: Forward, cache: CacheTensors) -> None:
        self._forward = forward
        self._cache = cache

    def run(self, plan: StepPlan, on_layer: LayerDone) -> dict[RequestId, int | None]:
        """Computes every chunk; the drawn token of each sequence with a complete prompt, None where logits are bad."""
        drawing = [chunk for chunk in plan.chunks if chunk.samples]
        with torch.inference_mode():
            logits = self._forward(_batch(plan), self._cache, on_layer)
            tokens = sample(logits, [_draw(chunk) for chunk in drawing])
        return {chunk.sequence.request_id: token for chunk, token in zip(drawing, tokens, strict=True)}


def _draw(chunk: Chunk) -> Draw:
    return Draw(chunk.sequence.request.sampling, len(chunk.sequence.output_token_ids))


def _batch(plan: StepPlan) -> ForwardBatch:
    chunks = plan.chunks
    width = max(len(chunk.sequence.pages) for chunk in chunks)
    table = [[*chunk.sequence.pages, *[0] * (width - len(chunk.sequence.pages))] for chunk in chunks]
    ends = torch.tensor([chunk.num_tokens for chunk in chunks]).cumsum(0)
    rows = [i for i, chunk in enumerate(chunks) if chunk.samples]
    return ForwardBatch(
        token_ids=torch.tensor([t for c in chunks for t in c.sequence.tokens(c.start, c.end)]),
        query_lens=tuple(chunk.num_tokens for chunk in chunks),
        context_lens=tuple(chunk.start for chunk in chunks),
        block_table=torch.tensor(table),
        state_slots=torch.tensor([chunk.sequence.slot for chunk in chunks]),
        num_decodes=len(plan.decodes),
        logit_rows=ends[rows] - 1,
    )
