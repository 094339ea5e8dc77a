"""The codec's kernels give the bytes of the CPU's form, which is tested against the reference, and decode them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import ExactLayout
from prfaas_kernels.codec import CodecError, PageSpan, StateSpan, cpu, triton
from prfaas_kernels.launch import INTERPRETED
from tests.kernels.codec_inputs import all_patterns, bits_of, in_pages, values_of, with_escapes

KINDS = ["int8_channel", "int8_token", "exact"]


def encoded(form: object, kind: str, values: Tensor, span: PageSpan | None = None) -> Tensor:
    found = getattr(form, f"encode_{kind}")(values, span)
    data: Tensor = found[0][: int(found[1])] if kind == "exact" else found
    return data.cpu()


def decoder(form: object, kind: str) -> Callable[..., Tensor | None]:
    found: Callable[..., Tensor | None] = getattr(form, f"decode_{kind}")
    return found


def on(device: torch.device, span: PageSpan) -> PageSpan:
    return PageSpan(span.page_ids.to(device), span.start, span.stop)


def assert_decoded(found: Tensor, wanted: Tensor, kind: str) -> None:
    """The same bits; the interpreter truncates to bf16, so there one unit in the last place."""
    if INTERPRETED and kind != "exact" and wanted.dtype is torch.bfloat16:
        assert torch.equal(found.isnan(), wanted.isnan())
        assert torch.allclose(found.float(), wanted.float(), rtol=2**-7, atol=0, equal_nan=True)
    else:
        assert torch.equal(bits_of(found), bits_of(wanted))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "dims"), [(1, (576,)), (63, (100,)), (64, (2, 128)), (65, (4, 24)), (200, (48,)), (90, (1,)), (0, (8,))]
)
def test_dense_rows(n: int, dims: tuple[int, ...], kind: str, device: torch.device) -> None:
    values = values_of(n, dims)
    data = encoded(triton, kind, values.to(device))
    assert torch.equal(data, encoded(cpu, kind, values))
    wanted, found = torch.empty_like(values), torch.empty_like(values, device=device)
    decoder(cpu, kind)(data, wanted)
    flaws = decoder(triton, kind)(data.to(device), found)
    assert flaws is None or int(flaws) == 0
    assert_decoded(found.cpu(), wanted, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "dims", "page_tokens", "start"),
    [
        (1, (576,), 64, 63),
        (70, (4, 24), 64, 60),
        (64, (75,), 16, 5),
        (40, (24,), 1, 3),
        (150, (128,), 32, 33),
        (130, (96,), 43, 42),
    ],
)
def test_pages(n: int, dims: tuple[int, ...], page_tokens: int, start: int, kind: str, device: torch.device) -> None:
    values = values_of(n, dims)
    pages, span = in_pages(values, page_tokens, start)
    data = encoded(triton, kind, pages.to(device), on(device, span))
    assert torch.equal(data, encoded(cpu, kind, values))
    wanted, found = torch.full_like(pages, torch.nan), torch.full_like(pages, torch.nan).to(device)
    decoder(cpu, kind)(data, wanted, span)
    flaws = decoder(triton, kind)(data.to(device), found, on(device, span))
    assert flaws is None or int(flaws) == 0
    assert_decoded(found.cpu(), wanted, kind)


@pytest.mark.parametrize("kind", ["int8_channel", "int8_token"])
def test_int8_of_fp32_and_of_what_it_cannot_hold(kind: str, device: torch.device) -> None:
    values = values_of(130, (130,), torch.float32)
    values[70, 70], values[3, 3], values[100, 129] = torch.nan, -torch.inf, 3.4e38
    values[:, 40] = 1e-45
    values[66] = torch.finfo(torch.bfloat16).max
    data = encoded(triton, kind, values.to(device))
    assert torch.equal(data, encoded(cpu, kind, values))
    wanted, found = torch.empty_like(values), torch.empty_like(values, device=device)
    decoder(cpu, kind)(data, wanted)
    decoder(triton, kind)(data.to(device), found)
    assert torch.equal(found.cpu().isnan(), wanted.isnan())
    assert torch.equal(found.cpu().nan_to_num(), wanted.nan_to_num())


@pytest.mark.parametrize("rare", [0, 1, 1500, 65536])
def test_exact_keeps_every_bit_pattern(rare: int, device: torch.device) -> None:
    """Alone they do not pay; among values that are alike, those that are few do."""
    values = torch.ones(max(rare, 9001), 1, dtype=torch.bfloat16)
    values[torch.randperm(values.shape[0])[:rare]] = all_patterns()[:rare]
    data = encoded(triton, "exact", values.to(device))
    assert torch.equal(data, encoded(cpu, "exact", values))
    assert (data.shape[0] == ExactLayout(values.numel()).raw_bytes) == (rare == 65536)
    found = torch.empty_like(values, device=device)
    assert triton.decode_exact(data.to(device), found) == 0
    assert torch.equal(bits_of(found.cpu()), bits_of(values))


@pytest.mark.parametrize("over", [-1, 0])
def test_exact_codes_what_is_shorter_by_a_byte(over: int, device: torch.device) -> None:
    layout = ExactLayout(5000)
    values = with_escapes(layout.raw_bytes - layout.escapes_at + over, 5000)
    data = encoded(triton, "exact", values.to(device))
    assert torch.equal(data, encoded(cpu, "exact", values))
    assert (data.shape[0], int(data[3])) == (layout.raw_bytes + over, over + 1)


def damaged(data: Tensor, layout: ExactLayout, part: str) -> None:
    counts = data[layout.table_at : layout.escapes_at].view(torch.int32)
    match part:
        case "header":
            data[5] ^= 1
        case "count":
            counts[0] -= 1
        case "counts that cancel":
            counts[0] += 1
            counts[1] -= 1
        case "largest counts":
            counts |= 0xFFFF
        case "codes":
            data[layout.codes_at : layout.table_at] = 0xFF
        case "raw header":
            data[3] = 0


@pytest.mark.parametrize("part", ["header", "count", "counts that cancel", "largest counts", "codes", "raw header"])
def test_exact_tells_of_bytes_that_contradict_each_other(part: str, device: torch.device) -> None:
    raw = part == "raw header"
    values = all_patterns()[:9000].view(90, 100) if raw else values_of(90, (100,))
    data = encoded(cpu, "exact", values).clone()
    damaged(data, ExactLayout(values.numel()), part)
    pages, span = in_pages(values, 16, 5)
    outs = []
    for behind in (0, 0xFF):  # in memory: it must not be read
        longer = torch.cat([data, torch.full((8192,), behind, dtype=torch.uint8)]).to(device)
        outs.append(torch.full_like(pages, torch.nan).to(device))
        assert triton.decode_exact(longer[: data.shape[0]], outs[-1], on(device, span)) != 0
    found = outs[0]
    assert torch.equal(bits_of(found), bits_of(outs[1]))
    with pytest.raises(CodecError):
        cpu.decode_exact(data, pages.clone(), span)
    back = found.cpu()
    token = torch.arange(span.start, span.stop)
    back[span.page_ids[token // 16], token % 16] = torch.nan
    assert torch.equal(bits_of(back), bits_of(torch.full_like(back, torch.nan)))


@pytest.mark.parametrize("dims", [(8, 12), (128, 128), (3,)])
def test_state16(dims: tuple[int, ...], device: torch.device) -> None:
    values = torch.randn(6, *dims)
    values[1], values[2], values[3] = 0, values[2] * 1e-38, values[3] * 1e37
    for bad in (False, True):
        if bad:
            values[4].view(-1)[-1], values[5].view(-1)[0] = torch.inf, torch.nan
        data, finite = triton.encode_state16(values.to(device))
        wanted, _ = cpu.encode_state16(values)
        assert torch.equal(data.cpu(), wanted)
        assert bool(finite) is not bad
    found, decoded = torch.empty_like(values, device=device), torch.empty_like(values)
    triton.decode_state16(data, found)
    cpu.decode_state16(wanted, decoded)
    assert torch.equal(found.cpu().isnan(), decoded.isnan())
    assert torch.equal(found.cpu()[:4], decoded[:4])


def test_state16_of_rows_of_an_arena(device: torch.device) -> None:
    values, row_bytes = torch.randn(5, 4, 24), 4 * 96
    arena = torch.full((9 * row_bytes + 64,), 0xFF, dtype=torch.uint8)
    span = StateSpan(torch.randperm(9)[:5] * row_bytes, (4, 24))
    for offset, row in zip(span.offsets.tolist(), values, strict=True):
        arena[offset : offset + row_bytes] = bits_of(row).view(-1)
    there = StateSpan(span.offsets.to(device), span.dims)
    data, finite = triton.encode_state16(arena.to(device), there)
    assert finite
    assert torch.equal(data.cpu(), cpu.encode_state16(values)[0])
    wanted, found = torch.full_like(arena, 0xFF), torch.full_like(arena, 0xFF, device=device)
    cpu.decode_state16(data.cpu(), wanted, span)
    triton.decode_state16(data, found, there)
    assert torch.equal(found.cpu(), wanted)


def test_wrong_sizes_are_refused(device: torch.device) -> None:
    values, state = torch.empty(70, 96, dtype=torch.bfloat16, device=device), torch.empty(3, 8, 8, device=device)
    short = torch.zeros(100, dtype=torch.uint8, device=device)
    for kind in KINDS:
        with pytest.raises(CodecError):
            decoder(triton, kind)(short, values)
    with pytest.raises(CodecError):
        triton.decode_state16(short, state)
    with pytest.raises(CodecError, match="32768"):
        triton.encode_state16(torch.empty(1, 32769, device=device))
