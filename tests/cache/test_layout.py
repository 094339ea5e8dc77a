"""Where things lie in pages: aligned, apart from each other, whole within a page, and with little between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import ALIGNMENT_BYTES, PageLayout, lay_out, waste
from prfaas.core.shape import CacheTensor, DType, LayerCache, ModelShape, model_shape
from tests.core.configs import PUBLISHED

BLOCK = 64
DTYPES: list[DType] = ["float32", "bfloat16"]
tensors = st.builds(
    CacheTensor, st.just("t"), st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple), st.sampled_from(DTYPES)
)
layers = st.builds(
    LayerCache, st.just("mla"), paged=st.booleans(), tensors=st.lists(tensors, min_size=1, max_size=3).map(tuple)
)
shapes = st.builds(
    ModelShape, st.just("kimi_linear"), st.lists(layers, min_size=1, max_size=5).map(tuple), st.just(1024)
)
Extent = tuple[int, int]


def published(model: str) -> ModelShape:
    return model_shape(PUBLISHED[model], "bfloat16")


def entries(shape: ModelShape, layout: PageLayout) -> list[Extent]:
    """Bytes of a page of KV that hold something."""
    return [
        (offset, offset + layout.page_tokens * tensor.num_bytes)
        for i in shape.paged_layers
        for tensor, offset in zip(shape.layers[i].tensors, layout.offsets[i], strict=True)
    ]


def rows(shape: ModelShape, layout: PageLayout) -> list[list[Extent]]:
    """Of each state page: bytes that hold something."""
    found: list[list[Extent]] = [[] for _ in range(layout.state_pages)]
    for i in shape.state_layers:
        for tensor, places in enumerate(layout.rows[i]):
            size = shape.layers[i].row_bytes(tensor)
            assert len(places) == shape.layers[i].num_rows(tensor, 0)
            for place in places:
                found[place.page].append((place.offset, place.offset + size))
    return found


@given(shapes, st.integers(1, 70))
def test_what_lies_in_a_page_is_aligned_apart_and_whole(shape: ModelShape, page_tokens: int) -> None:
    layout = lay_out(shape, page_tokens)
    assert layout.page_bytes % ALIGNMENT_BYTES == 0
    for page in (entries(shape, layout), *rows(shape, layout)):
        end = 0
        for start, stop in sorted(page):
            assert start % ALIGNMENT_BYTES == 0
            assert end <= start < stop <= layout.page_bytes
            end = stop
    assert layout.num_bytes(7) == 7 * layout.page_bytes


@given(shapes, st.integers(1, 70))
def test_every_layer_has_places_of_its_kind_and_no_state_page_is_empty(shape: ModelShape, page_tokens: int) -> None:
    layout = lay_out(shape, page_tokens)
    for i, layer in enumerate(shape.layers):
        assert len(layout.offsets[i]) == (len(layer.tensors) if layer.paged else 0)
        assert all(not places for places in layout.rows[i]) if layer.paged else all(layout.rows[i])
    assert all(rows(shape, layout))
    assert bool(layout.state_pages) == bool(shape.state_layers)


@given(shapes, st.integers(1, 70))
def test_first_fit_needs_little_more_than_the_bytes_do(shape: ModelShape, page_tokens: int) -> None:
    """11/9 of the best packing, which is no better than the bytes; rows above half a page may be alone in theirs."""
    layout = lay_out(shape, page_tokens)
    largest = max((stop - start for page in rows(shape, layout) for start, stop in page), default=0)
    if largest * 2 < layout.page_bytes - 2 * ALIGNMENT_BYTES:
        padded = sum(-(-(stop - start) // 64) * 64 for page in rows(shape, layout) for start, stop in page)
        assert layout.state_pages <= 2 * padded / layout.page_bytes + 1


@given(shapes)
def test_a_page_is_never_smaller_than_a_row(shape: ModelShape) -> None:
    states = [shape.layers[i].row_bytes(j) for i in shape.state_layers for j in range(len(shape.layers[i].tensors))]
    assert lay_out(shape, 1).page_bytes >= max(states, default=0)


def test_kimi_linear_fills_its_pages_with_heads_and_then_cached_inputs() -> None:
    shape = published("Kimi-Linear-48B-A3B")
    layout = lay_out(shape, BLOCK)
    assert layout.page_bytes == BLOCK * shape.kv_bytes_per_token == 516_096
    assert layout.offsets[3] == (0,)
    assert layout.offsets[7] == (BLOCK * 576 * 2,)
    assert layout.state_pages == 92
    head, conv = 65_536, 24_576
    assert sorted(rows(shape, layout)[0]) == [
        *((i * head, (i + 1) * head) for i in range(7)),
        *((7 * head + i * conv, 7 * head + (i + 1) * conv) for i in range(2)),
    ]


def test_neighbours_in_a_tensor_are_neighbours_in_a_page() -> None:
    layout = lay_out(published("Kimi-Linear-48B-A3B"), BLOCK)
    state, _ = layout.rows[0]
    assert [(place.page, place.offset) for place in state[:8]] == [*((0, i * 65_536) for i in range(7)), (1, 0)]


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_little_of_a_published_models_pages_is_wasted(model: str) -> None:
    shape = published(model)
    assert 0 <= waste(shape, BLOCK) <= 0.12
    for tokens in (BLOCK, 1000, 8192, 100_000):
        assert waste(shape, BLOCK, tokens) <= 0.12


def test_waste_counts_what_a_last_block_lacks() -> None:
    kimi, dense = published("Kimi-Linear-48B-A3B"), published("MiniMax-M2.5")
    assert waste(kimi, BLOCK) == pytest.approx(1 - 43_417_600 / (92 * 516_096))
    assert waste(kimi, BLOCK, 1) == pytest.approx(1 - (43_417_600 + 8_064) / (93 * 516_096))
    assert waste(dense, BLOCK) == 0
    assert waste(dense, BLOCK, BLOCK + 1) == pytest.approx(63 / 128)
