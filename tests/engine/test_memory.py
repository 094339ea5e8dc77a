"""Byte views of the cache: canonical order, whatever the pages, and the same bytes as the model's tensors."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.models.batch import CacheTensors
from prfaas.models.cache_tensors import map_cache
from tests.wire.small import KDA, SHAPE

PAGE = 4
PAGES = 8
LAYOUT = lay_out(SHAPE, PAGE)


def memory(shape: ModelShape = SHAPE, layout: PageLayout = LAYOUT) -> tuple[CacheMemory, CacheTensors, memoryview]:
    """Views and tensors of one block of bytes that count upwards, modulo a prime."""
    count = layout.num_bytes(PAGES)
    block = memoryview(bytearray(i % 251 for i in range(count)))
    return CacheMemory(shape, layout, block), map_cache(shape, layout, block), block


def bytes_of(x: Tensor) -> bytes:
    return bytes(x.contiguous().view(torch.uint8).numpy().tobytes())


@given(st.permutations(range(PAGES)), st.integers(0, 31), st.integers(1, 32))
def test_token_ranges_are_in_order_over_any_pages(pages: list[int], start: int, length: int) -> None:
    view, tensors, _ = memory()
    end = min(start + length, PAGES * PAGE)
    got = b"".join(view.spans(1, 0, start, end, pages, ()))
    assert got == bytes_of(tensors.layers[1].pages[0][pages].reshape(-1, 4)[start:end])


@given(st.permutations(range(PAGES)), st.data())
def test_rows_of_states_are_in_order_over_any_pages(pages: list[int], data: st.DataObject) -> None:
    view, tensors, _ = memory()
    mine = pages[: LAYOUT.state_pages]
    offsets = tensors.rows.resolve(torch.tensor([mine]))
    for tensor, state in enumerate(tensors.layers[0].states):
        rows = KDA.num_rows(tensor, 0)
        start = data.draw(st.integers(0, rows - 1))
        end = data.draw(st.integers(start + 1, rows))
        got = b"".join(view.spans(0, tensor, start, end, (), mine))
        assert got == bytes_of(state.rows(offsets, offsets).load_all()[0, start:end])


def test_adjacent_rows_are_one_view() -> None:
    view, _, _ = memory()
    heads = view.spans(0, 0, 0, 2, (), range(LAYOUT.state_pages))
    assert [len(span) for span in heads] == [2 * 4 * 4 * 4]
    taps = view.spans(0, 1, 0, 3, (), range(LAYOUT.state_pages))
    assert [len(span) for span in taps] == [32] * 3, "rows of 32 bytes lie 64 apart"
    wide = ModelShape("x", (LayerCache("mla", paged=True, tensors=(CacheTensor("t", (16,), "float32"),)),), 64)
    view, _, _ = memory(wide, lay_out(wide, PAGE))
    assert [len(span) for span in view.spans(0, 0, 1, 14, [2, 3, 4, 0], ())] == [11 * 64, 2 * 64]


def test_writing_a_view_writes_the_tensor() -> None:
    view, tensors, _ = memory()
    for span in view.spans(1, 0, 2, 6, [5, 3], ()):
        span[:] = bytes(len(span))
    entries = tensors.layers[1].pages[0]
    assert entries[5, 2:].abs().sum() == 0
    assert entries[3, :2].abs().sum() == 0
    assert (entries[5, :2] != 0).all()


def test_a_page_is_all_its_bytes() -> None:
    view, _, block = memory()
    assert view.page_bytes == LAYOUT.page_bytes
    assert b"".join(view.page(i) for i in range(PAGES)) == block.tobytes()
    view.page(3)[:] = bytes(view.page_bytes)
    assert block[3 * view.page_bytes : 4 * view.page_bytes].tobytes() == bytes(view.page_bytes)


@pytest.mark.parametrize("page", [-1, PAGES])
def test_a_page_outside_the_memory_is_nobodys(page: int) -> None:
    view, _, _ = memory()
    with pytest.raises(AssertionError):
        view.page(page)


def test_bf16_has_half_the_bytes() -> None:
    shape = replace(
        SHAPE, layers=(KDA, LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (4,), "bfloat16"),)))
    )
    layout = lay_out(shape, PAGE)
    block = memoryview(bytearray(layout.num_bytes(2)))
    view = CacheMemory(shape, layout, block)
    map_cache(shape, layout, block).layers[1].pages[0][1, :2] = 1.0
    assert b"".join(view.spans(1, 0, 0, PAGE, [1], ())) == b"\x80\x3f" * 8 + bytes(16)
