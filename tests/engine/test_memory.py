"""Byte views of the cache: canonical order, whatever the pages, and the same bytes as the model's tensors."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import lay_out
from prfaas.core.shape import CacheTensor, LayerCache
from prfaas.engine.memory import CacheMemory
from prfaas.models.batch import CacheTensors
from prfaas.models.cache_tensors import map_cache
from tests.wire.small import KDA, SHAPE

PAGE = 4
PAGES = 8
SLOTS = 3


def memory() -> tuple[CacheMemory, CacheTensors]:
    """Views and tensors of one block, whose elements count upwards in every tensor."""
    layout = lay_out(SHAPE, PAGES, SLOTS, PAGE)
    block = memoryview(bytearray(layout.num_bytes))
    tensors = map_cache(SHAPE, layout, block)
    for layer in tensors.layers:
        for tensor in layer:
            tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    return CacheMemory(SHAPE, layout, block), tensors


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
    shape = replace(
        SHAPE, layers=(KDA, LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (4,), "bfloat16"),)))
    )
    layout = lay_out(shape, 2, 1, PAGE)
    block = memoryview(bytearray(layout.num_bytes))
    view = CacheMemory(shape, layout, block)
    map_cache(shape, layout, block).layers[1][0][1, :2] = 1.0
    assert b"".join(view.spans(1, 0, 0, PAGE, [1], slot=0)) == b"\x80\x3f" * 8 + bytes(16)
