"""Lightning attention in Triton: long spans are cut into segments that are walked side by side, chunk by chunk.

How the work is cut, and why, is in README.md.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, capability, dot_type, launch, multiprocessors
from prfaas_kernels.lightning_attention.triton_segments import Segments
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHUNK = 64
_MOST_KEY_BYTES = 256  # of a head, for 64 columns of its state to fit in registers beside the rest
_DECODE_VALUES = 32


# Of tables of many layers each takes its columns: where these begin must not make a kernel of its own.
@triton.jit(do_not_specialize_on_alignment=["read_ptr"])
def _segments_kernel(
    k_ptr, v_ptr, log_decay_ptr, arena_ptr, read_ptr, starts_ptr, stops_ptr, contexts_ptr, work_ptr,
    spans_ptr, first_ptr, slots_ptr, k_stride, k_head, v_stride, v_head, read_stride, read_step, row_start, segment,
    K: tl.constexpr, V: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    number, head = tl.program_id(0) // tl.cdiv(V, VALUES), tl.program_id(1)
    span = tl.load(spans_ptr + number).to(tl.int64)
    which = number - tl.load(first_ptr + span)
    start = tl.load(starts_ptr + span)
    tokens = tl.load(stops_ptr + span) - start
    if tokens <= segment:
        return
    key = tl.arange(0, KEYS)
    value = tl.program_id(0) % tl.cdiv(V, VALUES) * VALUES + tl.arange(0, VALUES)
    in_state = key[:, None] * V + value[None, :]
    there = (key < K)[:, None] & (value < V)[None, :]
    slot = (tl.load(slots_ptr + span) + which).to(tl.int64)
    work_ptr += (slot * tl.num_programs(1) + head) * (K * V) + in_state
    state = tl.zeros([KEYS, VALUES], tl.float32)
    if which == 0:
        row = tl.multiple_of(tl.load(read_ptr + span * read_stride + head * read_step) // 4, 16) + row_start
        known = there & (tl.load(contexts_ptr + span) > 0)
        state = tl.load(arena_ptr + row + in_state, mask=known, other=0.0)
        tl.store(work_ptr, state, mask=there)
    first = which * segment
    if first + segment < tokens:
        decay = tl.load(log_decay_ptr + head).to(tl.float32)
        step = tl.arange(0, CHUNK)
        aged = tl.exp(decay * (CHUNK - 1 - step))[:, None]
        over_chunk = tl.exp(decay * CHUNK)
        token = (start + first + step).to(tl.int64)[:, None]
        k_ptrs = k_ptr + token * k_stride + head * k_head + key[None, :]
        v_ptrs = v_ptr + token * v_stride + head * v_head + value[None, :]
        for _ in range(0, segment, CHUNK):
            k = tl.load(k_ptrs, mask=(key < K)[None, :], other=0.0).to(DOT)
            v = tl.load(v_ptrs, mask=(value < V)[None, :], other=0.0).to(tl.float32)
            state = tl.dot(tl.trans(k), (v * aged).to(DOT), state * over_chunk, input_precision="tf32")
            k_ptrs += CHUNK * k_stride
            v_ptrs += CHUNK * v_stride
        tl.store(work_ptr + tl.num_programs(1) * (K * V), state, mask=there)


@triton.jit(do_not_specialize_on_alignment=["read_ptr", "written_ptr"])
def _outputs_kernel(
    q_ptr, k_ptr, v_ptr, log_decay_ptr, out_ptr, arena_ptr, read_ptr, written_ptr, starts_ptr, stops_ptr, contexts_ptr,
    work_ptr, spans_ptr, first_ptr, slots_ptr, q_stride, q_head, k_stride, k_head, v_stride, v_head,
    read_stride, read_step, written_stride, written_step, row_start, segment,
    K: tl.constexpr, V: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, CHUNK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    number, head = tl.program_id(0) // tl.cdiv(V, VALUES), tl.program_id(1)
    span = tl.load(spans_ptr + number).to(tl.int64)
    which = number - tl.load(first_ptr + span)
    start = tl.load(starts_ptr + span)
    tokens = tl.load(stops_ptr + span) - start
    first = which * segment
    heads = tl.num_programs(1)
    decay = tl.load(log_decay_ptr + head).to(tl.float32)
    key = tl.arange(0, KEYS)
    value = tl.program_id(0) % tl.cdiv(V, VALUES) * VALUES + tl.arange(0, VALUES)
    in_state = key[:, None] * V + value[None, :]
    there = (key < K)[:, None] & (value < V)[None, :]
    row = tl.multiple_of(tl.load(read_ptr + span * read_stride + head * read_step) // 4, 16) + row_start
    known = there & (tl.load(contexts_ptr + span) > 0) & (tokens <= segment)
    state = tl.load(arena_ptr + row + in_state, mask=known, other=0.0)
    if tokens > segment:
        # The state before segment n > 0 is the sum of what each segment left, the first from the span's own state.
        at = tl.minimum(which, 1)
        slot = (tl.load(slots_ptr + span) + at).to(tl.int64)
        left_ptrs = work_ptr + (slot * heads + head) * (K * V) + in_state
        state = tl.load(left_ptrs, mask=there, other=0.0)
        over_segment = tl.exp(decay * segment)
        for _ in range(at, which):
            left_ptrs += heads * (K * V)
            state = state * over_segment + tl.load(left_ptrs, mask=there, other=0.0)
    step = tl.arange(0, CHUNK)
    apart = step[:, None] - step[None, :]
    within = tl.where(apart >= 0, tl.exp(decay * tl.maximum(apart, 0)), 0.0)
    since = tl.exp(decay * (step + 1))[:, None]
    token = (start + first + step).to(tl.int64)[:, None]
    q_ptrs = q_ptr + token * q_stride + head * q_head + key[None, :]
    k_ptrs = k_ptr + token * k_stride + head * k_head + key[None, :]
    v_ptrs = v_ptr + token * v_stride + head * v_head + value[None, :]
    out_ptrs = out_ptr + token * (heads * V) + head * V + value[None, :]
    for done in range(first, tl.minimum(first + segment, tokens), CHUNK):
        size = tl.minimum(tokens - done, CHUNK)
        inside = (step < size)[:, None]
        q = tl.load(q_ptrs, mask=inside & (key < K)[None, :], other=0.0).to(DOT)
        k = tl.load(k_ptrs, mask=inside & (key < K)[None, :], other=0.0).to(DOT)
        v = tl.load(v_ptrs, mask=inside & (value < V)[None, :], other=0.0)
        weights = tl.dot(q, tl.trans(k), input_precision="tf32") * within
        out = tl.dot(q, state.to(DOT), input_precision="tf32") * since
        out = tl.dot(weights.to(DOT), v.to(DOT), out, input_precision="tf32")
        tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=inside & (value < V)[None, :])
        aged = tl.exp(decay * tl.maximum(size - 1 - step, 0))[:, None]
        v = (v.to(tl.float32) * aged).to(DOT)
        state = tl.dot(tl.trans(k), v, state * tl.exp(decay * size), input_precision="tf32")
        q_ptrs += CHUNK * q_stride
        k_ptrs += CHUNK * k_stride
        v_ptrs += CHUNK * v_stride
        out_ptrs += CHUNK * heads * V
    if first + segment >= tokens:
        row = tl.multiple_of(tl.load(written_ptr + span * written_stride + head * written_step) // 4, 16) + row_start
        tl.store(arena_ptr + row + in_state, state, mask=there)


@triton.jit(do_not_specialize_on_alignment=["read_ptr", "written_ptr"])
def _decode_kernel(
    q_ptr, k_ptr, v_ptr, log_decay_ptr, out_ptr, arena_ptr, read_ptr, written_ptr,
    q_stride, q_head, k_stride, k_head, v_stride, v_head,
    read_stride, read_step, written_stride, written_step, row_start,
    K: tl.constexpr, V: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    head, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    key = tl.arange(0, KEYS)
    value = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    in_state = row_start + key[:, None] * V + value[None, :]
    there = (key < K)[:, None] & (value < V)[None, :]
    source = tl.multiple_of(tl.load(read_ptr + sequence * read_stride + head * read_step) // 4, 16)
    target = tl.multiple_of(tl.load(written_ptr + sequence * written_stride + head * written_step) // 4, 16)
    state = tl.load(arena_ptr + source + in_state, mask=there, other=0.0)
    q = tl.load(q_ptr + sequence * q_stride + head * q_head + key, mask=key < K, other=0.0).to(tl.float32)
    k = tl.load(k_ptr + sequence * k_stride + head * k_head + key, mask=key < K, other=0.0).to(tl.float32)
    v = tl.load(v_ptr + sequence * v_stride + head * v_head + value, mask=value < V, other=0.0).to(tl.float32)
    state = state * tl.exp(tl.load(log_decay_ptr + head).to(tl.float32)) + k[:, None] * v[None, :]
    tl.store(arena_ptr + target + in_state, state, mask=there)
    out = tl.sum(q[:, None] * state, axis=0).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (sequence * tl.num_programs(1) + head) * V + value, out, mask=value < V)


def lightning_attention(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: StateRows, spans: Spans) -> Tensor:
    """As `cpu.lightning_attention`."""
    (_, heads, keys), values = q.shape, v.shape[2]
    arena, row_start = _rows(states, q, k, v)
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    wide = block(keys)
    narrow = min(block(values), 64 if wide * q.element_size() <= _MOST_KEY_BYTES else 32)
    blocks = triton.cdiv(values, narrow)
    segments = Segments.of(spans, heads * blocks, multiprocessors(q))
    sizes = {"K": keys, "V": values, "KEYS": wide, "VALUES": narrow, "CHUNK": _CHUNK, "DOT": dot_type(q.dtype)}
    # Where products do not read shared memory, or take halves of fp32, 4 warps would not have the registers.
    warps = 4 if capability(q) >= 90 and q.element_size() == 2 else 8
    where = segments.table.spans, segments.table.first, segments.slots
    grid = blocks * len(segments.table), heads
    work = torch.empty(segments.num_slots, heads, keys, values, dtype=torch.float32, device=q.device)
    if segments.num_slots:
        launch(
            _segments_kernel, grid, k, v, log_decay, arena, states.read, spans.starts, spans.stops, spans.contexts,
            work, *where, *k.stride()[:2], *v.stride()[:2], *states.read.stride(), row_start, segments.tokens,
            num_warps=warps, num_stages=3, **sizes,
        )  # fmt: skip
    launch(
        _outputs_kernel, grid, q, k, v, log_decay, out, arena, states.read, states.written, spans.starts, spans.stops,
        spans.contexts, work, *where, *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *states.read.stride(),
        *states.written.stride(), row_start, segments.tokens, num_warps=warps, num_stages=2, **sizes,
    )  # fmt: skip
    return out


def lightning_decode(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: StateRows) -> Tensor:
    """As `cpu.lightning_decode`."""
    (sequences, heads, keys), values = q.shape, v.shape[2]
    arena, row_start = _rows(states, q, k, v)
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    narrow = min(block(values), _DECODE_VALUES)
    launch(
        _decode_kernel, (triton.cdiv(values, narrow), heads, sequences), q, k, v, log_decay, out, arena, states.read,
        states.written, *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *states.read.stride(),
        *states.written.stride(), row_start, K=keys, V=values, KEYS=block(keys), VALUES=narrow,
    )  # fmt: skip
    return out


def _rows(states: StateRows, *inputs: Tensor) -> tuple[Tensor, int]:
    """The arena as the states' numbers, and where in a row they begin."""
    assert states.dtype is torch.float32
    assert all(x.stride(2) == 1 for x in inputs)
    ((start, _),) = states.parts
    return states.arena.view(torch.float32), start
