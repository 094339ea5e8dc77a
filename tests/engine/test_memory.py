"""Byte views of the cache: canonical order, whatever the pages."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from prfaas.engine.memory import CacheMemory
from prfaas.models.batch import CacheTensors
from tests.wire.small import SHAPE

PAGE = 4
PAGES = 8


def memory() -> tuple[CacheMemory, CacheTensors]:
    state = torch.arange(3 * 2 * 4 * 4, dtype=torch.float32).reshape(3, 2, 4, 4)
    conv = torch.arange(3 * 3 * 8, dtype=torch.float32).reshape(3, 3, 8)
    latent = torch.arange(PAGES * PAGE * 4, dtype=torch.float32).reshape(PAGES, PAGE, 4)
    tensors = CacheTensors(PAGE, ((state, conv), (latent,)))
    return CacheMemory(SHAPE, tensors), tensors


@given(st.permutations(range(PAGES)), st.integers(0, 31), st.integers(1, 32))
def test_token_ranges_are_in_order_over_any_pages(pages: list[int], start: int, length: int) -> None:
    view, tensors = memory()
    end = min(start + length, PAGES * PAGE)
    got = b"".join(view.spans(1, 0, start, end, pages, slot=0))
    expected = tensors.layers[1][0][pages].reshape(-1, 4)[start:end]
    assert got == expected.numpy().tobytes()


def test_states_are_cut_along_their_first_dimension() -> None:
    view, tensors = memory()
    assert b"".join(view.spans(0, 0, 1, 2, [], slot=2)) == tensors.layers[0][0][2, 1:2].numpy().tobytes()
    assert b"".join(view.spans(0, 1, 0, 3, [], slot=1)) == tensors.layers[0][1][1].numpy().tobytes()


def test_writing_a_view_writes_the_tensor() -> None:
    view, tensors = memory()
    for span in view.spans(1, 0, 2, 6, [5, 3], slot=0):
        span[:] = bytes(len(span))
    assert tensors.layers[1][0][5, 2:].abs().sum() == 0
    assert tensors.layers[1][0][3, :2].abs().sum() == 0
    assert (tensors.layers[1][0][5, :2] != 0).all()


def test_bf16_has_half_the_bytes() -> None:
    latent = torch.ones(2, PAGE, 4, dtype=torch.bfloat16)
    state, conv = torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 8)
    view = CacheMemory(SHAPE, CacheTensors(PAGE, ((state, conv), (latent,))))
    assert sum(s.nbytes for s in view.spans(0, 0, 0, 2, [], slot=0)) == 128
    assert view._rows[1][0][0].nbytes == PAGE * 4 * 2
