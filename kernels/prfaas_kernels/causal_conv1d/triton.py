"""The convolution over spans in Triton: a program has some tokens of some channels, and waits for no other."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import launch
from prfaas_kernels.span_chunks import CHUNK, SpanChunks
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHANNELS, _WARPS = 128, 8
_MOST_PARTS = 3


# Of tables of many layers each takes its columns: where these begin must not make a kernel of its own.
@triton.jit(do_not_specialize_on_alignment=["read_ptr", "written_ptr"])
def _convolution_kernel(
    x_ptr, weight_ptr, out_ptr, arena_ptr, read_ptr, written_ptr, starts_ptr, stops_ptr, contexts_ptr, spans_ptr,
    first_ptr, channels, x_stride, read_stride, read_step, written_stride, written_step,
    stop0, stop1, shift0, shift1, shift2,
    TAPS: tl.constexpr, OLD: tl.constexpr, VECTOR: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    SIZE: tl.constexpr = arena_ptr.dtype.element_ty.primitive_bitwidth // 8
    blocks = tl.cdiv(channels, CHANNELS)
    chunk = tl.program_id(0) // blocks
    span = tl.load(spans_ptr + chunk).to(tl.int64)
    first = (chunk - tl.load(first_ptr + span)) * TOKENS
    start = tl.load(starts_ptr + span)
    tokens = tl.load(stops_ptr + span) - start
    channel = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    there = (channel < channels)[None, :]
    x_ptr += start.to(tl.int64) * x_stride + channel[None, :]
    token = first + tl.arange(0, TOKENS)[:, None]
    total = tl.zeros([TOKENS, CHANNELS], tl.float32)
    # Taps are added oldest first, the cached ones before the span's, so no bit depends on where a sequence is cut.
    rows = tl.where(tl.load(contexts_ptr + span) > 0, TAPS - 1, 0)  # that are cached; before a sequence is zero
    # Where this rank's channels lie in such a row: it has a range of those of q, of k and of v.
    in_row = channel + tl.where(channel < stop0, shift0, tl.where(channel < stop1, shift1, shift2))
    in_row = tl.max_contiguous(tl.multiple_of(in_row, VECTOR), VECTOR)[None, :]
    if first == 0:
        for tap in tl.static_range(TAPS - 1):
            row = token + tap
            place = tl.load(read_ptr + span * read_stride + row * read_step, mask=row < rows, other=0) // SIZE
            place = tl.multiple_of(place, [64 // SIZE, 1])
            x = tl.load(arena_ptr + place + in_row, mask=(row < rows) & there, other=0.0).to(tl.float32)
            weight = tl.load(weight_ptr + tap * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)
            total += x * weight[None, :]
    for tap in tl.static_range(TAPS):
        source = token + (tap - (TAPS - 1))
        inside = (source >= 0) & (source < tokens) & there
        x = tl.load(x_ptr + source.to(tl.int64) * x_stride, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + tap * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)
        total += x * weight[None, :]
    total = total / (1.0 + tl.exp(-total))
    out_ptr += (start + token).to(tl.int64) * channels + channel[None, :]
    tl.store(out_ptr, total.to(out_ptr.dtype.element_ty), mask=(token < tokens) & there)
    if first == 0:
        # The last inputs: of the span, or moved up from the rows before it if it is shorter than these.
        old_row = tl.arange(0, OLD)[:, None]
        row_there = old_row < TAPS - 1
        last_token = tokens - (TAPS - 1) + old_row
        kept = old_row + tokens < rows
        begin = tl.load(read_ptr + span * read_stride + (old_row + tokens) * read_step, mask=kept, other=0) // SIZE
        old = tl.load(arena_ptr + begin + in_row, mask=kept & there, other=0.0)
        fresh = row_there & (last_token >= 0) & there
        new = tl.load(x_ptr + last_token.to(tl.int64) * x_stride, mask=fresh, other=0.0).to(old.dtype)
        # `written` may be `read`: all threads have what they need of it before one of them writes.
        tl.debug_barrier()
        begin = tl.load(written_ptr + span * written_stride + old_row * written_step, mask=row_there, other=0) // SIZE
        tl.store(arena_ptr + begin + in_row, tl.where(last_token >= 0, new, old), mask=row_there & there)


def causal_conv1d(x: Tensor, weight: Tensor, states: StateRows, spans: Spans) -> Tensor:
    """As `cpu.causal_conv1d`."""
    (rows, channels), taps = x.shape, weight.shape[0]
    assert x.stride(1) == 1
    assert weight.is_contiguous()
    assert taps >= 2
    out = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    chunks = SpanChunks.of(spans)
    launch(
        _convolution_kernel, (len(chunks) * triton.cdiv(channels, _CHANNELS),), x, weight, out,
        states.arena.view(states.dtype), states.read, states.written, spans.starts, spans.stops, spans.contexts,
        chunks.spans, chunks.first, channels, x.stride(0), *states.read.stride(), *states.written.stride(),
        *_shifts(states.parts), TAPS=taps, OLD=triton.next_power_of_2(taps - 1),
        VECTOR=_together(states.parts), TOKENS=CHUNK, CHANNELS=_CHANNELS, num_warps=_WARPS,
    )  # fmt: skip
    return out


def _shifts(parts: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Channels before which the first and the second part stop, and for each part how far a row's element is ahead."""
    assert len(parts) <= _MOST_PARTS
    stops, shifts, total = [], [], 0
    for start, stop in (*parts, *[(0, 0)] * (_MOST_PARTS - len(parts))):
        shifts.append(start - total)
        total += stop - start
        stops.append(total)
    return (*stops[:2], *shifts)


def _together(parts: tuple[tuple[int, int], ...]) -> int:
    """Channels that lie side by side, and aligned, in a row wherever a part begins or ends: at most eight."""
    return math.gcd(8, *(edge for part in parts for edge in part))
