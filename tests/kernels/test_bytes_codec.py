"""The codecs over plain memory give the bytes, and take the bytes, of those over tensors."""

from array import array
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prfaas_kernels import codec
from prfaas_kernels.bytes_codec import BytesCodec, CodecError, StatePlaces, TokenPlaces
from prfaas_kernels.codec import PageSpan, StateSpan
from tests.kernels.codec_inputs import bits_of, delta_rule_state, in_pages, values_of, with_escapes

FP32, BF16 = torch.float32, torch.bfloat16
ENCODED = [("int8_channel", FP32), ("int8_channel", BF16), ("int8_token", FP32), ("int8_token", BF16), ("exact", BF16)]


@pytest.fixture(scope="module")
def kernels() -> BytesCodec:
    return BytesCodec.open()


def places_of(pages: Tensor, span: PageSpan) -> TokenPlaces:
    page_tokens = pages.shape[1]
    ids = array("q", span.page_ids[span.start // page_tokens :].tolist())
    return TokenPlaces(
        pages.data_ptr(),
        span.stop - span.start,
        pages[0, 0].numel(),
        pages.dtype is torch.bfloat16,
        span.start % page_tokens,
        page_tokens,
        pages.stride(0),
        ids,
    )


def by_tensors(name: str, pages: Tensor, span: PageSpan) -> bytes:
    found = getattr(codec, f"encode_{name}")(pages, span)
    data = found[0][: int(found[1])] if name == "exact" else found
    return bytes(data.tolist())


def room() -> memoryview:
    return memoryview(bytearray(1 << 20))


@pytest.mark.parametrize(("name", "dtype"), ENCODED)
@pytest.mark.parametrize(("n", "page_tokens", "start"), [(64, 64, 64), (200, 16, 5), (90, 64, 60)])
def test_pages_there_and_back(
    kernels: BytesCodec, name: str, dtype: torch.dtype, n: int, page_tokens: int, start: int
) -> None:
    pages, span = in_pages(values_of(n, (4, 24), dtype), page_tokens, start)
    into = room()
    size = getattr(kernels, f"encode_{name}")(places_of(pages, span), into)
    expected = by_tensors(name, pages, span)
    assert bytes(into[:size]) == expected
    wanted, found = torch.full_like(pages, -7), torch.full_like(pages, -7)
    getattr(codec, f"decode_{name}")(torch.frombuffer(bytearray(expected), dtype=torch.uint8), wanted, span)
    # Begins oddly, and cannot be written.
    getattr(kernels, f"decode_{name}")(memoryview(b"x" + expected)[1:], places_of(found, span))
    assert torch.equal(bits_of(found), bits_of(wanted))


def test_rows_anywhere(kernels: BytesCodec) -> None:
    """As rings and convolution windows lie, by row."""
    values = values_of(5, (3, 40))
    memory = torch.zeros(2000, dtype=torch.bfloat16)
    offsets = [960, 0, 320, 1280, 160]
    for offset, row in zip(offsets, values.flatten(1), strict=True):
        memory[offset : offset + 120] = row
    into = room()
    size = kernels.encode_exact(TokenPlaces.scattered(memory.data_ptr(), offsets, 120, bf16=True), into)
    assert size is not None
    out = torch.zeros_like(memory)
    kernels.decode_exact(into[:size], TokenPlaces.scattered(out.data_ptr(), offsets, 120, bf16=True))
    assert torch.equal(out, memory)
    assert size < 2 * values.numel()


def test_states_there_and_back(kernels: BytesCodec) -> None:
    states = delta_rule_state(20, 4, 16)
    arena = torch.zeros(8 * 4 * 256, dtype=torch.uint8)
    offsets = [4096, 0, 6144, 2048]
    floats = arena.view(torch.float32)
    for offset, row in zip(offsets, states.flatten(1), strict=True):
        floats[offset // 4 : offset // 4 + 256] = row
    into = room()
    size = kernels.encode_state16(StatePlaces(arena.data_ptr(), array("q", offsets), 256), into)
    data, finite = codec.encode_state16(arena, StateSpan(torch.tensor(offsets), (16, 16)))
    assert finite
    assert bytes(into[:size]) == bytes(data.tolist())
    wanted, found = torch.zeros_like(arena), torch.zeros_like(arena)
    codec.decode_state16(data, wanted, StateSpan(torch.tensor(offsets), (16, 16)))
    kernels.decode_state16(into[:size], StatePlaces(found.data_ptr(), array("q", offsets), 256))
    assert torch.equal(found, wanted)


def dense(values: Tensor) -> TokenPlaces:
    return TokenPlaces(values.data_ptr(), values.shape[0], values[0].numel(), values.dtype is torch.bfloat16)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_a_state_that_is_not_finite_is_not_encoded(kernels: BytesCodec, odd: float) -> None:
    state = torch.ones(2, 64)
    state[1, 3] = odd
    assert kernels.encode_state16(StatePlaces(state.data_ptr(), array("q", [0, 256]), 64), room()) is None


def test_what_would_not_be_shorter_is_not_encoded(kernels: BytesCodec) -> None:
    noise = torch.randint(-(2**15), 2**15, (64, 64), dtype=torch.int16).view(torch.bfloat16)
    assert kernels.encode_exact(dense(noise), room()) is None
    assert kernels.encode_exact(dense(noise[:1, :1]), room()) is None
    assert kernels.encode_int8_channel(dense(values_of(1, (64,))), room()) is None
    assert kernels.encode_state16(StatePlaces(0, array("q"), 64), room()) is None


def test_an_encoder_stays_in_its_room(kernels: BytesCodec) -> None:
    values, encode = values_of(64, (64,)), (kernels.encode_exact, kernels.encode_int8_token)
    for run in encode:
        into = room()
        size = run(dense(values), into)
        assert size is not None
        assert run(dense(values), into[: size - 1]) is None
        assert run(dense(values), into[:size]) in (size, None)
    assert kernels.encode_state16(StatePlaces(values.data_ptr(), array("q", [0]), 64), room()[:100]) is None


DAMAGE: dict[str, Callable[[bytearray], object]] = {
    "nothing": lambda data: data.clear(),
    "too short": lambda data: data.pop(),
    "too long": lambda data: data.append(0),
    "another magic": lambda data: data.__setitem__(0, 0),
    "values as they are": lambda data: data.__setitem__(3, 1),
    "another count": lambda data: data.__setitem__(8, data[8] ^ 1),
    "another code": lambda data: data.__setitem__(16 + 8 * 512 + 1, data[16 + 8 * 512 + 1] | 7),
    "the table": lambda data: data.__setitem__(16 + 11 * 512, data[16 + 11 * 512] ^ 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_inconsistent_bytes_are_told(kernels: BytesCodec, damage: str) -> None:
    values, into = with_escapes(40, 4096), room()
    size = kernels.encode_exact(dense(values), into)
    assert size is not None
    data = bytearray(into[:size])
    DAMAGE[damage](data)
    with pytest.raises(CodecError):
        kernels.decode_exact(memoryview(data), dense(values.clone()))


@pytest.mark.parametrize("name", ["int8_channel", "int8_token"])
def test_a_wrong_size_is_told(kernels: BytesCodec, name: str) -> None:
    values = values_of(64, (64,))
    with pytest.raises(CodecError, match="bytes are expected"):
        getattr(kernels, f"decode_{name}")(memoryview(bytes(64 * 64)), dense(values))
    with pytest.raises(CodecError, match="bytes are expected"):
        kernels.decode_state16(memoryview(bytes(3)), StatePlaces(0, array("q", [0]), 64))


def test_more_values_than_kernels_count_are_refused() -> None:
    with pytest.raises(CodecError, match="at most"):
        TokenPlaces(0, 2**16, 2**15, bf16=True)
