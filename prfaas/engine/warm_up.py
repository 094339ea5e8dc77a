"""Steps of typical shapes before the first request: kernels are compiled for a GPU when they are first launched."""

from collections.abc import Iterator

import torch

from prfaas.engine.model_runner import Forward
from prfaas.models.batch import CacheTensors, ForwardBatch

_PROMPTS = (1, 17, 64, 250)
"""Tokens of chunks, beside one as long as a step."""
_DECODES = (1, 3, 16)
_CONTEXT, _LONG_CONTEXT = 700, 40_000
"""Tokens before them; after a long one keys are shared out to several programs, whose parts are joined."""

Span = tuple[int, int]
"""Tokens before it, and its own."""


def warm_up(
    forward: Forward, cache: CacheTensors, *, num_pages: int, state_pages: int, step_tokens: int, max_decodes: int
) -> int:
    """Runs the model over pages that nobody holds yet, and leaves no trace but in them. Returns the number of steps.

    Sequences of a step share their pages: what they compute is of no use.
    """
    most = (num_pages - state_pages) * cache.page_tokens
    if most < 2:
        return 0
    shapes = list(_shapes(step_tokens, max_decodes, most))
    with torch.inference_mode():
        for spans, num_decodes in shapes:
            batch = _batch(spans, num_decodes, state_pages, cache.page_tokens)
            forward(batch.to(cache.device), cache, None).cpu()
    return len(shapes)


def _shapes(step_tokens: int, max_decodes: int, most: int) -> Iterator[tuple[list[Span], int]]:
    """Spans and how many of them are decodes; no sequence is longer than `most`."""
    context, long = min(most - 1, _CONTEXT), min(most - 1, _LONG_CONTEXT)
    for count in sorted({min(count, max_decodes) for count in (*_DECODES, max_decodes)}):
        yield [(context, 1)] * count, count
    for tokens in sorted({min(tokens, step_tokens, most - 1) for tokens in (*_PROMPTS, step_tokens)}):
        yield [(0, tokens)], 0
        yield [(min(most - tokens, context), tokens)], 0
    yield [(long, 1)], 1
    yield [(max(0, long - 64), min(64, most - 1, step_tokens))], 0
    yield [(context, 1), (0, min(17, most)), (min(7, most - 1), 1)], 1


def _batch(spans: list[Span], num_decodes: int, state_pages: int, page_tokens: int) -> ForwardBatch:
    lens = tuple(tokens for _, tokens in spans)
    pages = -(-max(context + tokens for context, tokens in spans) // page_tokens)
    states = torch.arange(state_pages).expand(len(spans), -1)
    return ForwardBatch(
        token_ids=torch.zeros(sum(lens), dtype=torch.int64),
        query_lens=lens,
        context_lens=tuple(context for context, _ in spans),
        block_table=torch.arange(state_pages, state_pages + pages).expand(len(spans), -1).contiguous(),
        state_from=states,
        state_to=states,
        continues=(False,) * len(spans),
        num_decodes=num_decodes,
        logit_rows=torch.tensor(lens).cumsum(0) - 1,
    )
