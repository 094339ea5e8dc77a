"""The families' decoders with compiled kernels against somebody else's: decode from the first token on, and mixed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from prfaas_kernels import native
from tests.models.conftest import Tiny
from tests.models.rig import Part, decode_all, forward, logit_error, make_rig
from tests.models.test_parity import close, prompt


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lets ops use compiled kernels."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    directory = tmp_path_factory.mktemp("kernels")
    native.enable(directory)
    yield directory
    native.disable()


def test_decoding_from_the_first_token_on(every: Tiny) -> None:
    ids = prompt(70)
    assert logit_error(decode_all(make_rig(every.ours), ids), every.theirs(ids)) < close(every)


def test_a_batch_of_decodes_of_several_lengths(every: Tiny) -> None:
    all_ids = [prompt(n) for n in (2, 17, 33, 48, 64)]
    expected = [every.theirs(ids)[-1:] for ids in all_ids]
    rig = make_rig(every.ours, len(all_ids))
    forward(rig, [Part(i, ids[:-1]) for i, ids in enumerate(all_ids)])
    batch = [Part(i, ids[-1:], len(ids) - 1) for i, ids in enumerate(all_ids)]
    for i, logits in enumerate(forward(rig, batch, num_decodes=len(batch))):
        assert logit_error(logits, expected[i]) < close(every), f"sequence {i}"


def test_one_batch_of_decodes_and_prompts(every: Tiny) -> None:
    all_ids = [prompt(n) for n in (41, 20, 60, 50, 1)]
    expected = [every.theirs(ids) for ids in all_ids]
    rig = make_rig(every.ours, len(all_ids))
    done = (40, 19, 0, 37, 0)
    forward(rig, [Part(i, ids[:n]) for i, (ids, n) in enumerate(zip(all_ids, done, strict=True)) if n])
    batch = [Part(i, ids[n:], n) for i, (ids, n) in enumerate(zip(all_ids, done, strict=True))]
    for i, logits in enumerate(forward(rig, batch, num_decodes=2)):
        assert logit_error(logits, expected[i][done[i] :]) < close(every), f"sequence {i}"
