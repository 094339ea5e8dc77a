"""States that are kept where a prompt was cut: what goes on from them, in the same batch or later, equals the whole."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prfaas_kernels import native
from tests.models.conftest import Tiny
from tests.models.rig import PAGE_TOKENS, Part, Rig, forward, in_chunks, logit_error, make_rig
from tests.models.tiny_configs import VOCAB, WINDOW

CLOSE = 5e-5
CUT, OTHER_CUT = 3 * PAGE_TOKENS, PAGE_TOKENS
FIRST, SECOND, SNAPSHOT = 0, 1, 2
"""Rows of a rig's states: two sequences and what was kept between."""


@pytest.fixture(params=["torch", "compiled"], autouse=True)
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if request.param == "compiled":
        if shutil.which("g++") is None:
            pytest.skip("no g++ here")
        native.enable(library(tmp_path_factory))
    yield
    native.disable()


def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this run, so that it is compiled once."""
    return tmp_path_factory.getbasetemp() / "snapshot-kernels"


def prompt(length: int) -> list[int]:
    return torch.randint(3, VOCAB, (length,)).tolist()


def rig_with_snapshot(tiny: Tiny) -> Rig:
    return make_rig(tiny.ours, sequences=2, max_tokens=120, snapshots=1)


def kept(rig: Rig) -> Tensor:
    """The snapshot's bytes."""
    return rig.pages[rig.state_pages[SNAPSHOT]].clone()


def share_prefix(rig: Rig, tokens: int) -> None:
    """The second sequence's first pages are the first one's."""
    rig.block_table[SECOND, : tokens // PAGE_TOKENS] = rig.block_table[FIRST, : tokens // PAGE_TOKENS]


@pytest.mark.parametrize("cut", [OTHER_CUT, CUT])
def test_two_spans_of_a_prompt_in_one_batch_equal_the_whole(every: Tiny, cut: int) -> None:
    ids, other = prompt(70), prompt(11)
    rig = rig_with_snapshot(every)
    spans = [Part(0, ids[:cut], written=SNAPSHOT), Part(0, ids[cut:], cut, read=SNAPSHOT), Part(1, other)]
    *parts, beside = forward(rig, spans)
    whole = forward(make_rig(every.ours), [Part(0, ids)])[0]
    assert logit_error(torch.cat(parts), whole) < CLOSE
    assert logit_error(beside, forward(make_rig(every.ours), [Part(0, other)])[0]) < CLOSE
    following = forward(rig, [Part(0, [7], 70)], num_decodes=1)[0]
    assert logit_error(following, in_chunks(make_rig(every.ours), [*ids, 7], 71)[-1:]) < CLOSE


def test_another_prompt_goes_on_from_a_snapshot_and_leaves_it(every: Tiny) -> None:
    ids, branch = prompt(70), prompt(WINDOW + 5)
    rig = rig_with_snapshot(every)
    forward(rig, [Part(0, ids[:CUT], written=SNAPSHOT), Part(0, ids[CUT:], CUT, read=SNAPSHOT)])
    before = kept(rig)
    share_prefix(rig, CUT)
    continued = [Part(SECOND, branch[:9], CUT, read=SNAPSHOT), Part(SECOND, branch[9:], CUT + 9)]
    logits = torch.cat(forward(rig, continued))
    whole = in_chunks(make_rig(every.ours), ids[:CUT] + branch, 1000)[CUT:]
    assert logit_error(logits, whole) < CLOSE
    assert torch.equal(kept(rig), before)
    # The first one's own state was left alone as well.
    following = forward(rig, [Part(FIRST, [7], 70)], num_decodes=1)[0]
    assert logit_error(following, in_chunks(make_rig(every.ours), [*ids, 7], 71)[-1:]) < CLOSE


def test_the_second_of_two_spans_may_be_a_single_token(every: Tiny) -> None:
    ids = prompt(CUT + 1)
    rig = rig_with_snapshot(every)
    parts = forward(rig, [Part(0, ids[:CUT], written=SNAPSHOT), Part(0, ids[CUT:], CUT, read=SNAPSHOT)])
    assert logit_error(torch.cat(parts), forward(make_rig(every.ours), [Part(0, ids)])[0]) < CLOSE


def test_decodes_may_begin_at_a_snapshot_and_end_in_one(every: Tiny) -> None:
    """One of two decodes reads what its prompt left in the snapshot; later it writes one, from which it goes on."""
    ids, other = prompt(CUT), prompt(20)
    rig = rig_with_snapshot(every)
    forward(rig, [Part(0, ids, written=SNAPSHOT), Part(1, other)])
    before = kept(rig)
    first = forward(rig, [Part(1, [4], 20), Part(0, [5], CUT, read=SNAPSHOT)], num_decodes=2)
    assert torch.equal(kept(rig), before)
    second = forward(rig, [Part(0, [6], CUT + 1, written=SNAPSHOT)], num_decodes=1)
    third = forward(rig, [Part(0, [7], CUT + 2, read=SNAPSHOT)], num_decodes=1)
    whole = in_chunks(make_rig(every.ours), [*ids, 5, 6, 7], 1000)[-3:]
    assert logit_error(torch.cat([first[1], *second, *third]), whole) < CLOSE
    assert logit_error(first[0], in_chunks(make_rig(every.ours), [*other, 4], 1000)[-1:]) < CLOSE
