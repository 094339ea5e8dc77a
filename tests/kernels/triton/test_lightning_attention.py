"""Lightning attention by Triton's kernels, against the recurrence."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.minimax.configuration_minimax import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

from prfaas_kernels.launch import recorded
from prfaas_kernels.lightning_attention import lightning_reference, triton_segments
from prfaas_kernels.lightning_attention.triton import lightning_attention, lightning_decode
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.poisoned_states import POISON, sparse_bytes, states_of, written_rows

HEADS, KEY, VALUE = 3, 32, 48


def tolerance(device: torch.device, dtype: torch.dtype) -> float:
    """A GPU multiplies bf16, or fp32 cut off to 11 bits; the interpreter fp32, and cuts off bits for bf16."""
    return 1e-2 if dtype is torch.bfloat16 else 5e-3 if device.type == "cuda" else 1e-5


def inputs(
    tokens: int, device: torch.device, dtype: torch.dtype = torch.float32, value: int = VALUE
) -> tuple[Tensor, Tensor, Tensor]:
    """Slices of wider rows, as layers have them."""
    qkv = torch.randn(tokens, HEADS, 2 * KEY + value, device=device).to(dtype)
    q, k, v = torch.split(qkv, [KEY, KEY, value], dim=2)
    return q, k, v


def part(qkv: tuple[Tensor, Tensor, Tensor], start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = qkv
    return q[start:stop], k[start:stop], v[start:stop]


def decays(device: torch.device) -> Tensor:
    return torch.tensor([-1.0, -0.05, 0.0], device=device)


def check(
    qkv: tuple[Tensor, Tensor, Tensor], decay: Tensor, spans: Spans, *, limit: float, in_place: bool = False
) -> None:
    """Runs the kernels on random states, which are left out where there is no context."""
    device, (key, value) = decay.device, (qkv[0].shape[2], qkv[2].shape[2])
    known = torch.tensor(spans.context_lens, device=device)[:, None, None] > 0
    before = torch.randn(len(spans), HEADS, key * value, device=device)
    states = states_of(torch.where(known, before, torch.nan), (key, value), in_place=in_place)
    out = lightning_attention(*qkv, decay, states, spans)
    after = written_rows(states, key * value).view(-1, HEADS, key, value)
    assert out.dtype == qkv[2].dtype
    outside = torch.ones(out.shape[0], dtype=torch.bool, device=device)
    old = torch.where(known, before, 0.0).view(-1, HEADS, key, value)
    for i, (start, stop) in enumerate(spans.rows):
        outside[start:stop] = False
        if start == stop:
            assert torch.equal(after[i], old[i])
            continue
        expected, moved = lightning_reference(*part(qkv, start, stop), decay, old[i])
        assert error_ratio(out[start:stop], expected) < limit
        assert error_ratio(after[i], moved) < limit
    assert out[outside].isnan().all()


def test_the_reference_agrees_with_transformers() -> None:
    config = MiniMaxConfig(
        hidden_size=48, num_attention_heads=HEADS, head_dim=16, num_hidden_layers=4, block_size=32,
        layer_types=["linear_attention"] * 4,
    )  # fmt: skip
    layer = MiniMaxLightningAttention(config, 1).eval()
    seen: list[Tensor] = []
    layer.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    layer.act_fn.register_forward_hook(lambda _, _args, out: seen.append(out[0]))
    layer(torch.randn(1, 75, 48), None, None)
    qkv, theirs = seen
    q, k, v = torch.split(qkv.view(75, HEADS, 48), 16, dim=2)
    ours, _ = lightning_reference(q, k, v, -layer.slope_rate.flatten(), torch.zeros(HEADS, 16, 16))
    assert error_ratio(ours.flatten(1), theirs) < 1e-5


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of two chunks, so that spans of a few hundred tokens have several."""
    monkeypatch.setattr(triton_segments, "_SHORTEST_TOKENS", 128)


@pytest.mark.usefixtures("short_segments")
def test_only_long_spans_have_several_segments() -> None:
    cpu = torch.device("cpu")
    states = states_of(torch.zeros(1, HEADS, KEY * VALUE), (KEY, VALUE))
    for tokens, segments in ((128, 1), (129, 2), (600, 5), (5000, 10)):  # 600: five of 128, 5,000: ten of 512
        with recorded(90) as launches:
            lightning_attention(*inputs(tokens, cpu), decays(cpu), states, Spans.packed((tokens,), (0,)))
        assert [launch.grid for launch in launches] == [(segments, HEADS)] * (1 if segments == 1 else 2)


@pytest.mark.usefixtures("short_segments")
def test_short_spans_beside_a_long_one_need_no_workspace() -> None:
    meta = torch.device("meta")
    lens = (5, 0, 600, 100, 129, 7)
    rows = torch.empty(len(lens), HEADS, dtype=torch.int64, device=meta)
    states = StateRows(rows.view(torch.uint8).flatten(), rows, rows, ((0, KEY * VALUE),), (KEY, VALUE), torch.float32)
    q, k, v = (torch.empty(sum(lens), HEADS, width, device=meta) for width in (KEY, KEY, VALUE))
    with recorded(90) as launches:
        lightning_attention(q, k, v, decays(meta), states, Spans.packed(lens, (1,) * len(lens), meta))
    assert [launch.grid for launch in launches] == [(11, HEADS)] * 2
    named = dict(zip(launches[0].kernel.arg_names, launches[0].arguments, strict=False))
    assert named["work_ptr"].shape == (5 + 2, HEADS, KEY, VALUE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize("tokens", [0, 1, 63, 64, 65, 200])
def test_one_span(device: torch.device, dtype: torch.dtype, tokens: int, context: int) -> None:
    spans = Spans.packed((tokens,), (context,), device)
    check(inputs(tokens, device, dtype), decays(device), spans, in_place=True, limit=tolerance(device, dtype))


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize("tokens", [128, 129, 256, 385, 600])
def test_a_span_of_several_segments(device: torch.device, tokens: int, context: int) -> None:
    spans = Spans.packed((tokens,), (context,), device)
    check(inputs(tokens, device), decays(device), spans, in_place=True, limit=tolerance(device, torch.float32))


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("in_place", [True, False])
def test_uneven_spans_with_gaps(device: torch.device, in_place: bool) -> None:
    spans = Spans.of(((0, 0), (2, 3), (3, 260), (270, 270), (280, 410), (411, 475)), (3, 0, 4, 0, 0, 9), device)
    limit = tolerance(device, torch.float32)
    check(inputs(480, device), decays(device), spans, in_place=in_place, limit=limit)


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("log_decay", [0.0, -1e-3, -30.0, -200.0])
def test_weak_and_strong_decays(device: torch.device, log_decay: float) -> None:
    decay = torch.tensor([log_decay, log_decay / 3, -0.5], device=device)
    limit = tolerance(device, torch.float32)
    check(inputs(300, device), decay, Spans.packed((300,), (1,), device), limit=limit)


@pytest.mark.parametrize(("key", "value"), [(128, 128), (20, 96)])
def test_other_sizes_of_heads(device: torch.device, key: int, value: int) -> None:
    q, k = (torch.randn(70, HEADS, key, device=device) for _ in range(2))
    v = torch.randn(70, HEADS, value, device=device)
    limit = tolerance(device, torch.float32)
    check((q, k, v), decays(device), Spans.packed((70,), (1,), device), limit=limit)


def test_large_values(device: torch.device) -> None:
    q, k, v = inputs(130, device)
    limit = tolerance(device, torch.float32)
    check((300 * q, 300 * k, 300 * v), decays(device), Spans.packed((130,), (1,), device), limit=limit)


def test_a_sequence_may_be_cut_anywhere(device: torch.device) -> None:
    qkv, decay = inputs(150, device), decays(device)
    states = states_of(torch.full((1, HEADS, KEY * VALUE), torch.nan, device=device), (KEY, VALUE), in_place=True)
    whole = lightning_attention(*qkv, decay, states, Spans.packed((150,), (0,), device))
    after = written_rows(states, KEY * VALUE)
    parts = []
    for start, stop in ((0, 1), (1, 70), (70, 150)):
        spans = Spans.packed((stop - start,), (start,), device)
        parts.append(lightning_attention(*part(qkv, start, stop), decay, states, spans))
    limit = tolerance(device, torch.float32)
    assert error_ratio(torch.cat(parts), whole) < limit
    assert error_ratio(written_rows(states, KEY * VALUE), after) < limit


def test_only_the_written_rows_change(device: torch.device) -> None:
    states = states_of(torch.randn(1, HEADS, KEY * VALUE, device=device), (KEY, VALUE))
    untouched = states.arena.clone()
    lightning_attention(*inputs(70, device), decays(device), states, Spans.packed((70,), (1,), device))
    lightning_decode(*inputs(1, device), decays(device), states)
    for where in states.written.flatten().tolist():
        states.arena[where : where + 4 * KEY * VALUE] = POISON
    assert torch.equal(states.arena, untouched)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("value", [VALUE, 20])
def test_decode_is_a_step_of_the_reference(
    device: torch.device, dtype: torch.dtype, in_place: bool, value: int
) -> None:
    q, k, v = inputs(5, device, dtype, value)
    before = torch.randn(5, HEADS, KEY, value, device=device)
    states = states_of(before.flatten(2), (KEY, value), in_place=in_place)
    out = lightning_decode(q, k, v, decays(device), states)
    after = written_rows(states, KEY * value).view_as(before)
    assert out.dtype == dtype
    for i in range(5):
        expected, moved = lightning_reference(*part((q, k, v), i, i + 1), decays(device), before[i])
        assert error_ratio(out[i : i + 1], expected) < (1e-2 if dtype is torch.bfloat16 else 2e-6)
        assert error_ratio(after[i], moved) < 2e-6


@pytest.mark.usefixtures("short_segments")
def test_states_far_into_the_arena(device: torch.device, tmp_path: Path) -> None:
    """Offsets of more elements than 31 bits count."""
    base, row_bytes = 2**33, KEY * VALUE * 4
    arena = sparse_bytes(base + HEADS * row_bytes, tmp_path, device)
    rows = base + torch.arange(HEADS, device=device)[None] * row_bytes
    states = StateRows(arena, rows, rows, ((0, KEY * VALUE),), (KEY, VALUE), torch.float32)
    before = torch.randn(1, HEADS, KEY, VALUE, device=device)
    states.store_all(before)
    qkv, limit = inputs(200, device), tolerance(device, torch.float32)
    expected, moved = lightning_reference(*qkv, decays(device), before[0])
    out = lightning_attention(*qkv, decays(device), states, Spans.packed((200,), (1,), device))
    assert error_ratio(out, expected) < limit
    assert error_ratio(states.load_all()[0], moved) < limit
    states.store_all(before)
    lightning_decode(*part(qkv, 0, 1), decays(device), states)
    _, moved = lightning_reference(*part(qkv, 0, 1), decays(device), before[0])
    assert error_ratio(states.load_all()[0], moved) < 2e-6


@pytest.mark.usefixtures("short_segments")
def test_tokens_far_apart(device: torch.device, tmp_path: Path) -> None:
    memory = sparse_bytes(2**33 + 2**27, tmp_path, device).view(torch.float32)
    width = HEADS * KEY
    q, k, v = (
        memory.as_strided((130, HEADS, KEY), (2**24, KEY, 1), i * width).copy_(torch.randn(130, HEADS, KEY))
        for i in range(3)
    )
    limit = tolerance(device, torch.float32)
    check((q, k, v), decays(device), Spans.packed((130,), (1,), device), limit=limit)
