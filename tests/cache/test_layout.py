"""Regions of a cache: aligned, apart from each other, and as large as what they hold."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import ALIGNMENT_BYTES, lay_out
from prfaas.core.shape import CacheTensor, DType, LayerCache, ModelShape

DTYPES: list[DType] = ["float32", "bfloat16"]
tensors = st.builds(
    CacheTensor, st.just("t"), st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), st.sampled_from(DTYPES)
)
layers = st.builds(
    LayerCache, st.just("mla"), paged=st.booleans(), tensors=st.lists(tensors, min_size=1, max_size=3).map(tuple)
)
shapes = st.builds(
    ModelShape, st.just("kimi_linear"), st.lists(layers, min_size=1, max_size=4).map(tuple), st.just(1024)
)


@given(shapes, st.integers(1, 9), st.integers(1, 5), st.integers(1, 7))
def test_regions_are_aligned_disjoint_and_hold_every_place(
    shape: ModelShape, num_pages: int, num_slots: int, page_tokens: int
) -> None:
    layout = lay_out(shape, num_pages, num_slots, page_tokens)
    end = 0
    for layer, regions in zip(shape.layers, layout.layers, strict=True):
        for tensor, region in zip(layer.tensors, regions, strict=True):
            assert region.offset % ALIGNMENT_BYTES == 0
            assert end <= region.offset < end + ALIGNMENT_BYTES
            places, tokens = (num_pages, page_tokens) if layer.paged else (num_slots, 1)
            assert (region.places, region.place_bytes) == (places, tokens * tensor.num_bytes)
            assert region.place(places) == region.end
            end = region.end
    assert layout.num_bytes == end
