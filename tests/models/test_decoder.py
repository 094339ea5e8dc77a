"""What the decoder promises whatever the family: batching, chunking, page tables and the layer callback."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from prfaas.engine.warm_up import warm_up
from tests.models.conftest import Tiny
from tests.models.rig import POISON, Part, Rig, forward, in_chunks, logit_error, make_rig, pack
from tests.models.tiny_configs import VOCAB

CLOSE = 5e-5


def prompts(*lengths: int) -> list[list[int]]:
    return [torch.randint(3, VOCAB, (length,)).tolist() for length in lengths]


def test_batched_decode_of_mixed_lengths_equals_one_by_one(every: Tiny) -> None:
    ids = prompts(1, 16, 17, 100, 333)
    together, alone = make_rig(every.ours, len(ids)), make_rig(every.ours, len(ids))
    for rig in (together, alone):
        forward(rig, [Part(i, part) for i, part in enumerate(ids)])
    for step in range(20):
        parts = [Part(i, [5 + step], len(part) + step) for i, part in enumerate(ids)]
        batched = forward(together, parts, num_decodes=len(parts))
        for part, logits in zip(parts, batched, strict=True):
            assert logit_error(logits, forward(alone, [part], num_decodes=1)[0]) < CLOSE


def test_decodes_and_prefill_chunks_in_one_batch(every: Tiny) -> None:
    ids = prompts(40, 70, 64, 1, 33)
    mixed, alone = make_rig(every.ours, 5), make_rig(every.ours, 5)
    for rig in (mixed, alone):
        forward(rig, [Part(0, ids[0]), Part(1, ids[1]), Part(4, ids[4][:32])])
    parts = [Part(1, [9], 70), Part(0, [8], 40), Part(2, ids[2]), Part(3, ids[3]), Part(4, ids[4][32:], 32)]
    batched = forward(mixed, parts, num_decodes=2)
    for part, logits in zip(parts, batched, strict=True):
        assert logit_error(logits, forward(alone, [part])[0]) < CLOSE


def test_single_token_prefill_at_any_context(every: Tiny) -> None:
    (ids,) = prompts(20)
    whole = in_chunks(make_rig(every.ours), ids, 20)
    assert logit_error(in_chunks(make_rig(every.ours), ids, 1), whole) < CLOSE


def test_reused_pages_forget_their_last_sequence(every: Tiny) -> None:
    first, second = prompts(50, 50)
    used = make_rig(every.ours)
    forward(used, [Part(0, first)])
    assert torch.equal(forward(used, [Part(0, second)])[0], forward(make_rig(every.ours), [Part(0, second)])[0])


@pytest.mark.parametrize("page_tokens", [1, 5, 64])
def test_page_size_does_not_matter(every: Tiny, page_tokens: int) -> None:
    (ids,) = prompts(66)
    rig = make_rig(every.ours, max_tokens=80, page_tokens=page_tokens)
    in_chunks(rig, ids, 20)
    next_logits = forward(rig, [Part(0, [7], 66)], num_decodes=1)[0]
    assert logit_error(next_logits, in_chunks(make_rig(every.ours), [*ids, 7], 67)[-1:]) < CLOSE


def entries(rig: Rig, layer: int) -> list[Tensor]:
    """What a layer has of the first sequence."""
    tensors, rows = rig.cache.layers[layer], rig.cache.rows.resolve(rig.state_pages[:1])
    states = [state.rows(rows, rows).load_all() for state in tensors.states]
    return [*(pages[rig.block_table[0]] for pages in tensors.pages), *states]


def test_on_layer_comes_in_order_with_the_cache_written(every: Tiny) -> None:
    (ids,) = prompts(40)
    reference, rig = make_rig(every.ours), make_rig(every.ours)
    forward(reference, [Part(0, ids)])
    seen = []

    def check(layer: int) -> None:
        seen.append(layer)
        for actual, expected in zip(entries(rig, layer), entries(reference, layer), strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)

    forward(rig, [Part(0, ids)], on_layer=check)
    assert seen == list(range(len(every.ours.shape.layers)))


def test_writes_nothing_outside_its_pages(every: Tiny) -> None:
    (ids,) = prompts(40)
    rig = make_rig(every.ours, sequences=3)
    forward(rig, [Part(1, ids)])
    forward(rig, [Part(1, [5], 40)], num_decodes=1)
    written = {n for n, page in enumerate(rig.pages) if (page != POISON).any()}
    assert written == {*rig.block_table[1, :3].tolist(), *rig.state_pages[1].tolist()}


def test_only_wanted_rows_get_logits(every: Tiny) -> None:
    ids = prompts(40, 9)
    rig = make_rig(every.ours, 2)
    parts = [Part(0, ids[0]), Part(1, ids[1])]
    whole = torch.cat(forward(rig, parts))
    assert whole.shape == (49, every.ours.vocab_size)
    assert whole.dtype == torch.float32
    batch = pack(rig, parts)
    for rows in ([39, 48], [], [48, 0]):
        wanted = replace(batch, logit_rows=torch.tensor(rows, dtype=torch.int64))
        logits = every.ours.decoder.forward(wanted, rig.cache)
        assert logits.shape == (len(rows), every.ours.vocab_size)
        torch.testing.assert_close(logits, whole[rows], rtol=1e-4, atol=1e-4)


def test_warm_up_runs_every_kind_of_step_and_leaves_no_trace(every: Tiny) -> None:
    (ids,) = prompts(40)
    expected = in_chunks(make_rig(every.ours), ids, 20)
    rig = make_rig(every.ours, sequences=2)
    state_pages = rig.state_pages.shape[1]
    sizes = {"num_pages": len(rig.pages), "state_pages": state_pages, "step_tokens": 70, "max_decodes": 2}
    assert warm_up(every.ours.decoder.forward, rig.cache, **sizes) > 5
    assert logit_error(in_chunks(rig, ids, 20), expected) < CLOSE
