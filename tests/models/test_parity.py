"""Our decoder against somebody else's on the same weights: transformers', and for Ring the one in this folder."""

import torch

from tests.models.conftest import Tiny
from tests.models.rig import Part, decode_all, forward, greedy, in_chunks, logit_error, make_rig
from tests.models.tiny import TransformersReference
from tests.models.tiny_configs import VOCAB

SHORT = (1, 63, 64, 65)
LONG = 2049
AMPLIFIERS = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
"""Both sides of these are 2e-5 away from fp64: their gated norms amplify rounding."""


def close(tiny: Tiny) -> float:
    return 1e-4 if tiny.family in AMPLIFIERS else 2e-5


def prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def test_short_prompts_in_chunks(every: Tiny) -> None:
    for length in SHORT:
        ids = prompt(length)
        expected = every.theirs(ids)
        for chunk in (1, 17, 64, length):
            actual = in_chunks(make_rig(every.ours), ids, chunk)
            assert logit_error(actual, expected) < close(every), f"{length} tokens in chunks of {chunk}"


def test_every_position_of_a_longer_prompt(every: Tiny) -> None:
    ids = prompt(300)
    expected = every.theirs(ids)
    for chunk in (17, 64, 512):
        actual = in_chunks(make_rig(every.ours), ids, chunk)
        assert logit_error(actual, expected) < close(every), f"in chunks of {chunk}"


def test_a_long_prompt(every: Tiny) -> None:
    ids = prompt(LONG)
    expected = every.theirs(ids)[-1]
    for chunk in (64, 512, LONG):
        actual = in_chunks(make_rig(every.ours, max_tokens=LONG), ids, chunk)[-1]
        assert logit_error(actual, expected) < close(every), f"in chunks of {chunk}"


def test_decoding_from_the_first_token_on(every: Tiny) -> None:
    ids = prompt(130)
    assert logit_error(decode_all(make_rig(every.ours), ids), every.theirs(ids)) < close(every)


def test_one_batch_of_decodes_and_prompts(every: Tiny) -> None:
    """Two sequences decode, one prompt begins, one continues and one is a single token, over scattered pages."""
    all_ids = [prompt(n) for n in (41, 20, 90, 70, 1)]
    expected = [every.theirs(ids) for ids in all_ids]
    rig = make_rig(every.ours, len(all_ids))
    done = (40, 19, 0, 37, 0)
    forward(rig, [Part(i, ids[:n]) for i, (ids, n) in enumerate(zip(all_ids, done, strict=True)) if n])
    batch = [Part(i, ids[n:], n) for i, (ids, n) in enumerate(zip(all_ids, done, strict=True))]
    for i, logits in enumerate(forward(rig, batch, num_decodes=2)):
        assert logit_error(logits, expected[i][done[i] :]) < close(every), f"sequence {i}"


def test_greedy_tokens(every: Tiny) -> None:
    ids, steps = prompt(70), 128
    tokens = greedy(make_rig(every.ours), ids, steps)
    if isinstance(every.theirs, TransformersReference):
        assert tokens == every.theirs.greedy(ids, steps)
    else:
        assert tokens == every.theirs(ids + tokens[:-1])[len(ids) - 1 :].argmax(-1).tolist()
    assert len(set(tokens)) > 8, "an answer that repeats itself shows little"
