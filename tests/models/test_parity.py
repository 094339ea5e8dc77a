"""Our decoder against transformers' on the same weights."""

import pytest
import torch
from torch import Tensor

from tests.models.conftest import Tiny
from tests.models.rig import decode_all, greedy, in_chunks, logit_error, make_rig
from tests.models.tiny import VOCAB, quiet_transformers

LENGTHS = [1, 63, 64, 65, 300]


def prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def their_logits(tiny: Tiny, ids: list[int]) -> Tensor:
    with quiet_transformers():
        logits: Tensor = tiny.theirs(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_equal_those_of_transformers(tiny: Tiny, length: int) -> None:
    ids = prompt(length)
    expected = their_logits(tiny, ids)
    for chunk in (length, 64, 17, 1):
        actual = in_chunks(make_rig(tiny.ours), ids, chunk)
        assert logit_error(actual, expected) < 1e-4, f"in chunks of {chunk}"


@pytest.mark.parametrize("length", [2, 65, 130])
def test_decoded_logits_equal_those_of_transformers(tiny: Tiny, length: int) -> None:
    ids = prompt(length)
    assert logit_error(decode_all(make_rig(tiny.ours), ids), their_logits(tiny, ids)) < 1e-4


@pytest.mark.parametrize("length", [1, 30, 100])
def test_greedy_tokens_equal_those_of_transformers(tiny: Tiny, length: int) -> None:
    ids, steps = prompt(length), 32
    with quiet_transformers():
        theirs = tiny.theirs.generate(
            torch.tensor([ids]), max_new_tokens=steps, min_new_tokens=steps, do_sample=False, eos_token_id=None
        )
    assert greedy(make_rig(tiny.ours), ids, steps) == theirs[0, length:].tolist()
