"""Every form of the codec on a CPU gives the bytes of the reference, and decodes them; no bytes do harm."""

import contextlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from prfaas_kernels import codec
from prfaas_kernels.bytes_codec.sizes import BLOCK_TOKENS, GROUP_CHANNELS, ExactLayout
from prfaas_kernels.codec import CodecError, PageSpan, StateSpan
from tests.kernels.codec_inputs import all_patterns, bits_of, delta_rule_state, in_pages, values_of, with_escapes
from tests.kernels.error_ratio import error_ratio

LENGTHS = [1, 63, 64, 65, 200]
DIMS = [(576,), (4, 25), (1,)]
INT8: dict[str, tuple[Callable[..., Tensor], Callable[..., None], Callable[[Tensor], bytes], Callable[..., int]]] = {
    "channel": (
        codec.encode_int8_channel,
        codec.decode_int8_channel,
        codec.encode_int8_channel_reference,
        codec.int8_channel_bytes,
    ),
    "token": (
        codec.encode_int8_token,
        codec.decode_int8_token,
        codec.encode_int8_token_reference,
        codec.int8_token_bytes,
    ),
}

pytestmark = pytest.mark.usefixtures("form")
fuzzed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exactly(values: Tensor, span: PageSpan | None = None) -> Tensor:
    data, length = codec.encode_exact(values, span)
    return data[: int(length)]


@pytest.mark.parametrize("kind", INT8)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("n", LENGTHS)
def test_int8_is_the_reference_and_within_half_a_step(
    n: int, dims: tuple[int, ...], dtype: torch.dtype, kind: str
) -> None:
    encode, decode, reference, size = INT8[kind]
    values, decoded = values_of(n, dims, dtype), torch.empty(n, *dims, dtype=dtype)
    data = encode(values)
    assert bytes(data.tolist()) == reference(values)
    assert data.shape[0] == size(n, dims)
    decode(data, decoded)
    rows, found = values.flatten(1).float(), decoded.flatten(1).float()
    groups = torch.split(rows, *((BLOCK_TOKENS, 0) if kind == "channel" else (GROUP_CHANNELS, 1)))
    step = torch.cat(
        [g.abs().amax(0 if kind == "channel" else 1, keepdim=True).expand_as(g) / 127 for g in groups],
        dim=0 if kind == "channel" else 1,
    )
    rounding = 2**-8 if dtype is torch.bfloat16 else 2**-22
    assert ((rows - found).abs() <= step * (0.5 + 1e-5) + rounding * found.abs()).all()


@pytest.mark.parametrize("kind", INT8)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3.4e38])
def test_int8_poisons_what_shares_a_scale_with_what_it_cannot_hold(bad: float, kind: str) -> None:
    encode, decode, reference, _ = INT8[kind]
    values = torch.randn(130, 130)
    values[70, 70] = bad
    data, decoded = encode(values), torch.empty(130, 130)
    assert bytes(data.tolist()) == reference(values)
    decode(data, decoded)
    wanted = torch.zeros(130, 130, dtype=torch.bool)
    wanted[(slice(64, 128), 70) if kind == "channel" else (70, slice(0, 128))] = True
    assert torch.equal(decoded.isnan(), wanted)


@pytest.mark.parametrize("kind", INT8)
def test_int8_of_the_smallest_and_the_largest(kind: str) -> None:
    encode, decode, reference, _ = INT8[kind]
    sizes = torch.tensor([0.0, 1e-45, 2.0**-101, 2.0**-100, 2.0**-99, 1e30, torch.finfo(torch.bfloat16).max])
    scale = sizes.repeat_interleave(128)
    for values in (torch.randn(64, scale.shape[0]).clamp(-1, 1) * scale, -scale.expand(3, -1)):
        values = values.contiguous()
        data, decoded = encode(values), torch.empty(values.shape)
        assert bytes(data.tolist()) == reference(values)
        decode(data, decoded)
        assert decoded.isfinite().all()
        assert torch.equal(decoded == 0, decoded.where(scale >= 2.0**-100, 0) == 0)
        assert ((decoded - values).abs() <= scale / 200 + 2.0**-100).all()


@pytest.mark.parametrize("kind", [*INT8, "exact"])
@pytest.mark.parametrize(
    ("n", "page_tokens", "start"), [(1, 64, 63), (64, 64, 64), (200, 16, 5), (70, 1, 3), (90, 64, 60)]
)
def test_pages_give_the_bytes_of_dense_rows_and_get_them_back(n: int, page_tokens: int, start: int, kind: str) -> None:
    values = values_of(n, (4, 24))
    pages, span = in_pages(values, page_tokens, start)
    encode, decode = (exactly, codec.decode_exact) if kind == "exact" else INT8[kind][:2]
    data = encode(pages, span)
    assert torch.equal(data, encode(values))
    wanted = torch.empty_like(values)
    decode(data, wanted)
    expected, span = in_pages(wanted, page_tokens, start)
    found = torch.full_like(expected, torch.nan)
    decode(data, found, span)
    assert torch.equal(bits_of(found), bits_of(expected))


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("n", LENGTHS)
def test_exact_is_the_reference_and_loses_nothing(n: int, dims: tuple[int, ...]) -> None:
    values, decoded = values_of(n, dims), torch.empty(n, *dims, dtype=torch.bfloat16)
    data = exactly(values)
    assert bytes(data.tolist()) == codec.encode_exact_reference(values)
    assert codec.decode_exact(data, decoded) == 0
    assert torch.equal(bits_of(decoded), bits_of(values))


def test_exact_keeps_every_bit_pattern_and_grows_by_its_header_at_most() -> None:
    values = all_patterns()
    data, decoded = exactly(values), torch.empty_like(values)
    assert bytes(data.tolist()) == codec.encode_exact_reference(values)
    assert data.shape[0] == 2 * values.numel() + 16 == codec.exact_most_bytes(2**16, (1,))
    codec.decode_exact(data, decoded)
    assert torch.equal(bits_of(decoded), bits_of(values))


@pytest.mark.parametrize("rare", [0, 1, 40, 4096])
def test_exact_codes_what_is_common_and_keeps_what_is_rare(rare: int) -> None:
    """All patterns among values that are alike, until they no longer pay."""
    values = torch.ones(9000, 3, dtype=torch.bfloat16)
    values.view(-1)[torch.randperm(27000)[:rare]] = all_patterns()[:rare, 0]
    data, decoded = exactly(values), torch.empty_like(values)
    assert bytes(data.tolist()) == codec.encode_exact_reference(values)
    assert data.shape[0] < 2 * 27000 * 0.80
    codec.decode_exact(data, decoded)
    assert torch.equal(bits_of(decoded), bits_of(values))


@pytest.mark.parametrize("over", [-1, 0])
def test_exact_codes_what_is_shorter_by_a_byte(over: int) -> None:
    layout = ExactLayout(5000)
    values = with_escapes(layout.raw_bytes - layout.escapes_at + over, 5000)
    data, decoded = exactly(values), torch.empty_like(values)
    assert bytes(data.tolist()) == codec.encode_exact_reference(values)
    assert (data.shape[0], int(data[3])) == (layout.raw_bytes + over, over + 1)
    codec.decode_exact(data, decoded)
    assert torch.equal(decoded, values)


def test_exact_on_normal_values_is_a_third_smaller() -> None:
    values = torch.randn(910, 576).bfloat16()
    assert 2 * values.numel() / exactly(values).shape[0] > 1.42
    assert 2 * values.numel() / exactly(torch.zeros_like(values)).shape[0] > 1.45


def test_exact_is_for_bfloat16() -> None:
    with pytest.raises(CodecError, match="bfloat16"):
        codec.encode_exact(torch.zeros(2, 2))
    with pytest.raises(CodecError, match="bfloat16"):
        codec.decode_exact(torch.zeros(16, dtype=torch.uint8), torch.zeros(2, 2))


def test_an_object_has_an_end() -> None:
    with pytest.raises(CodecError, match="at most"):
        codec.encode_exact(torch.empty(2**20, 1025, dtype=torch.bfloat16, device="meta"))


def test_state16_is_the_reference_and_says_what_it_cannot_hold() -> None:
    values = torch.randn(6, 8, 12)
    values[1], values[4, 2, 3], values[5, 0, 0] = 0, torch.inf, torch.nan
    values[2] *= 1e-38
    values[3] *= 1e37
    data, finite = codec.encode_state16(values)
    assert bytes(data.tolist()) == codec.encode_state16_reference(values)
    assert data.shape[0] == codec.state16_bytes(6, (8, 12))
    assert not finite
    assert codec.encode_state16(values[:4])[1]
    decoded = torch.empty_like(values)
    codec.decode_state16(data, decoded)
    assert decoded[4:].isnan().all()
    peak = values[:4].abs().amax((1, 2), keepdim=True)
    bound = (values[:4].abs() * 2.0**-11).maximum(peak * 2.0**-38).clamp(min=2.0**-137)
    assert ((decoded[:4] - values[:4]).abs() <= bound).all()


def test_state16_has_eight_times_the_precision_of_bfloat16() -> None:
    state = delta_rule_state(200, 4, 32)
    data, _ = codec.encode_state16(state)
    decoded = torch.empty_like(state)
    codec.decode_state16(data, decoded)
    assert error_ratio(decoded, state) < 2.0**-12
    assert error_ratio(decoded, state) < error_ratio(state.bfloat16(), state) / 7


def test_state16_of_rows_of_an_arena() -> None:
    values = torch.randn(5, 4, 24)
    row_bytes = 4 * 96
    arena = torch.full((9 * row_bytes + 64,), 0xFF, dtype=torch.uint8)
    span = StateSpan(torch.randperm(9)[:5] * row_bytes, (4, 24))
    for offset, row in zip(span.offsets.tolist(), values, strict=True):
        arena[offset : offset + row_bytes] = bits_of(row).view(-1)
    data, finite = codec.encode_state16(arena, span)
    assert finite
    assert torch.equal(data, codec.encode_state16(values)[0])
    decoded = torch.empty_like(values)
    codec.decode_state16(data, decoded)
    expected = torch.full_like(arena, 0xFF)
    for offset, row in zip(span.offsets.tolist(), decoded, strict=True):
        expected[offset : offset + row_bytes] = bits_of(row).view(-1)
    found = torch.full_like(arena, 0xFF)
    codec.decode_state16(data, found, span)
    assert torch.equal(found, expected)


def test_nothing_to_encode() -> None:
    empty = torch.empty(0, 4, 24, dtype=torch.bfloat16)
    for encode, decode, _, _ in INT8.values():
        assert encode(empty).shape == (0,)
        decode(torch.empty(0, dtype=torch.uint8), empty)
    data = exactly(empty)
    assert data.shape == (16,)
    codec.decode_exact(data, empty)
    state, finite = codec.encode_state16(torch.empty(0, 8, 8))
    assert state.shape == (0,)
    assert finite
    codec.decode_state16(state, torch.empty(0, 8, 8))


def test_bytes_that_begin_anywhere() -> None:
    values, decoded = values_of(70, (100,)), torch.empty(70, 100, dtype=torch.bfloat16)
    pairs: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], object]]] = [
        *(kind[:2] for kind in INT8.values()),
        (exactly, codec.decode_exact),
    ]
    for encode, decode in pairs:
        data = encode(values)
        decode(data, decoded)
        wanted, moved = decoded.clone(), torch.cat([data[:3], data])[3:]
        decoded.fill_(torch.nan)
        decode(moved, decoded)
        assert torch.equal(decoded, wanted)


@pytest.mark.parametrize("change", [-1, 1, None])
def test_wrong_sizes_are_refused(change: int | None) -> None:
    values, state = values_of(70, (100,)), torch.randn(3, 8, 8)
    decoders: list[tuple[Tensor, Callable[[Tensor], object]]] = [
        (codec.encode_int8_channel(values), lambda data: codec.decode_int8_channel(data, values)),
        (codec.encode_int8_token(values), lambda data: codec.decode_int8_token(data, values)),
        (exactly(values), lambda data: codec.decode_exact(data, values)),
        (codec.encode_state16(state)[0], lambda data: codec.decode_state16(data, state)),
    ]
    for data, decode in decoders:
        size = 0 if change is None else data.shape[0] + change
        with pytest.raises(CodecError):
            decode(torch.cat([data, data])[:size])


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 8, 12, 15])
def test_a_wrong_header_is_refused(place: int) -> None:
    data = exactly(values_of(90, (96,)))
    data[place] ^= 0x40
    with pytest.raises(CodecError, match="header"):
        codec.decode_exact(data, torch.empty(90, 96, dtype=torch.bfloat16))


def test_a_wrong_table_is_refused() -> None:
    values = values_of(90, (96,))
    layout = ExactLayout(values.numel())
    more = exactly(values)
    more[layout.table_at] ^= 1
    with pytest.raises(CodecError, match="escapes"):
        codec.decode_exact(more, values)
    moved = exactly(values)
    counts = moved[layout.table_at : layout.escapes_at].view(torch.int32)
    counts[0] += 1
    counts[1] -= 1
    with pytest.raises(CodecError, match="block"):
        codec.decode_exact(moved, values)


@fuzzed
@given(data=st.binary(max_size=1200))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    decode_in_pages(torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8))


@fuzzed
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), cut=st.integers(0, 40))
def test_mutated_bytes_do_no_harm(changes: list[tuple[int, int]], cut: int) -> None:
    torch.manual_seed(0)
    for encode in (codec.encode_int8_channel, codec.encode_int8_token, exactly):
        data = encode(values_of(50, (100,))).clone()
        for place, value in changes:
            data[-1 - place % data.shape[0]] = value
        decode_in_pages(data[: data.shape[0] - cut // 8])


def decode_in_pages(data: Tensor) -> None:
    """Decodes into 50 tokens of pages with each decoder; nothing else is written, whatever `data` is."""
    untouched, span = in_pages(torch.zeros(50, 100, dtype=torch.bfloat16), 16, 3)
    for decode in (codec.decode_int8_channel, codec.decode_int8_token, codec.decode_exact):
        pages = untouched.clone()
        with contextlib.suppress(CodecError):
            decode(data, pages, span)
        token = torch.arange(span.start, span.stop)
        pages[span.page_ids[token // 16], token % 16] = 0
        assert torch.equal(bits_of(pages), bits_of(untouched))
