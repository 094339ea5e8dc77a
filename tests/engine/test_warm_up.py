"""Steps before the first request: within the pages that there are, whatever their number."""

import pytest
import torch
from torch import Tensor

from prfaas.engine.warm_up import warm_up
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.cache_tensors import allocate_cache
from tests.wire.small import SHAPE

PAGE, STATE_PAGES = 4, 2


def steps(num_pages: int, step_tokens: int = 512, max_decodes: int = 8) -> list[ForwardBatch]:
    """The batches that a decoder is given."""
    found = []

    def forward(batch: ForwardBatch, _: CacheTensors, __: LayerDone | None) -> Tensor:
        found.append(batch)
        return torch.zeros(len(batch.logit_rows), 10)

    cache = allocate_cache(SHAPE, num_pages, PAGE)
    sizes = {"num_pages": num_pages, "state_pages": STATE_PAGES}
    count = warm_up(forward, cache, step_tokens=step_tokens, max_decodes=max_decodes, **sizes)
    assert count == len(found)
    return found


@pytest.mark.parametrize("num_pages", [3, 4, 5, 20, 1000])
@pytest.mark.parametrize("step_tokens", [1, 16, 512])
def test_no_step_needs_more_than_there_is(num_pages: int, step_tokens: int) -> None:
    for batch in steps(num_pages, step_tokens):
        longest = max(context + n for context, n in zip(batch.context_lens, batch.query_lens, strict=True))
        assert longest <= (num_pages - STATE_PAGES) * PAGE
        assert batch.block_table.shape[1] * PAGE >= longest
        assert int(batch.block_table.max()) < num_pages
        assert int(batch.block_table.min()) >= STATE_PAGES > int(batch.state_to.max())
        assert len(batch.token_ids) == sum(batch.query_lens)
        assert all(
            n == 1 and c > 0
            for n, c in list(zip(batch.query_lens, batch.context_lens, strict=True))[: batch.num_decodes]
        )


def test_all_kinds_of_steps_are_among_them() -> None:
    batches = steps(1000)
    assert {batch.num_decodes for batch in batches if batch.num_decodes == len(batch.query_lens)} == {1, 3, 8}
    prompts = {batch.query_lens[0] for batch in batches if not batch.num_decodes}
    assert prompts == {1, 17, 64, 250, 512}
    assert {batch.context_lens[0] > 0 for batch in batches if not batch.num_decodes} == {True, False}
    assert any(0 < batch.num_decodes < len(batch.query_lens) for batch in batches)


def test_where_no_token_fits_nothing_is_run() -> None:
    assert steps(STATE_PAGES) == []
