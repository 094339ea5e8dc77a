"""What crosses, and encoded how: follows from the shapes of all families."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ManifestError
from prfaas.core.shape import CacheTensor, DType, LayerCache, ModelShape
from prfaas.wire.header import LOSSY, Codec, ObjectKey
from prfaas.wire.tensors import Expectation, usable_codecs
from tests.wire.small import BF16_SHAPE, EXPECTATION, SHAPE, TOKENS


def shape(dtype: DType) -> ModelShape:
    """One layer of every kind."""
    state = CacheTensor("state", (2, 3, 5), "float32")
    conv = CacheTensor("conv", (3, 8), dtype)
    layers = (
        LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (6,), dtype),)),
        LayerCache("gqa", paged=True, tensors=(CacheTensor("k", (2, 4), dtype), CacheTensor("v", (2, 3), dtype))),
        LayerCache(
            "window", paged=False, tensors=(CacheTensor("k", (7, 2, 4), dtype), CacheTensor("v", (7, 2, 3), dtype))
        ),
        LayerCache("kda", paged=False, tensors=(state, conv)),
        LayerCache("gdn", paged=False, tensors=(state, conv)),
        LayerCache("lightning", paged=False, tensors=(state,)),
    )
    return ModelShape("all", layers, max_context_tokens=1024)


INT8 = {Codec.INT8_CHANNEL, Codec.INT8_TOKEN}


@pytest.mark.parametrize(
    ("dtype", "layer", "tensor", "codecs"),
    [
        ("bfloat16", 0, 0, {Codec.EXACT, *INT8}),
        ("bfloat16", 1, 0, {Codec.EXACT, *INT8}),
        ("bfloat16", 1, 1, {Codec.EXACT, *INT8}),
        ("bfloat16", 2, 0, {Codec.EXACT}),
        ("bfloat16", 2, 1, {Codec.EXACT}),
        ("bfloat16", 3, 0, {Codec.STATE16}),
        ("bfloat16", 3, 1, {Codec.EXACT}),
        ("bfloat16", 4, 0, {Codec.STATE16}),
        ("bfloat16", 5, 0, {Codec.STATE16}),
        ("float32", 0, 0, INT8),
        ("float32", 1, 1, INT8),
        ("float32", 2, 0, set()),
        ("float32", 3, 0, {Codec.STATE16}),
        ("float32", 3, 1, set()),
    ],
)
def test_usable_codecs(dtype: DType, layer: int, tensor: int, codecs: set[Codec]) -> None:
    assert usable_codecs(shape(dtype), layer, tensor) == codecs | {Codec.RAW}


def test_without_lossy_codecs_raw_and_exact_are_left() -> None:
    for dtype in ("float32", "bfloat16"):
        model = shape(dtype)
        for layer, cache in enumerate(model.layers):
            for tensor in range(len(cache.tensors)):
                assert Codec.RAW in usable_codecs(model, layer, tensor)
                assert usable_codecs(model, layer, tensor) - LOSSY <= {Codec.RAW, Codec.EXACT}


@given(st.integers(1, 50), st.data())
def test_objects_of_one_row_each_make_up_the_cache(tokens: int, data: st.DataObject) -> None:
    held = data.draw(st.integers(0, tokens))
    model = shape("bfloat16")
    expect = Expectation(model, {"bfloat16": model}, "f", tokens, b"s", held)
    total = 0
    for layer, tensor in expect.tensors():
        for row in expect.rows(layer, tensor):
            total += expect.raw_bytes(ObjectKey(layer, tensor, row, row + 1), model)
    assert total == (tokens - held) * model.kv_bytes_per_token + model.state_bytes


def test_the_senders_dtype_decides_the_size() -> None:
    assert EXPECTATION.raw_bytes(ObjectKey(1, 0, 2, 5), SHAPE) == 3 * 4 * 4
    assert EXPECTATION.raw_bytes(ObjectKey(1, 0, 2, 5), BF16_SHAPE) == 3 * 4 * 2
    assert EXPECTATION.raw_bytes(ObjectKey(0, 0, 0, 1), BF16_SHAPE) == 64, "states are fp32 everywhere"


@pytest.mark.parametrize(
    "key", [ObjectKey(2, 0, 0, 1), ObjectKey(65535, 0, 0, 1), ObjectKey(0, 2, 0, 1), ObjectKey(1, 1, 0, 1)]
)
def test_what_the_model_does_not_have(key: ObjectKey) -> None:
    with pytest.raises(ManifestError, match="does not have"):
        EXPECTATION.raw_bytes(key, SHAPE)


@pytest.mark.parametrize("held", [0, 1, 9, 10])
def test_only_rows_that_are_awaited_have_a_size(held: int) -> None:
    expect = dataclasses.replace(EXPECTATION, held_tokens=held)
    for start, end in itertools.product(range(13), repeat=2):
        if held <= start < end <= TOKENS:
            assert expect.raw_bytes(ObjectKey(1, 0, start, end), SHAPE) == (end - start) * 16
        else:
            with pytest.raises(ManifestError, match="awaited"):
                expect.raw_bytes(ObjectKey(1, 0, start, end), SHAPE)
