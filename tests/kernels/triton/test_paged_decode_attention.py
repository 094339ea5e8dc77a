"""Decode over pages in Triton against attention over each sequence's tokens."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.merge_partials.triton import merge_partials
from prfaas_kernels.paged_decode_attention.reference import paged_decode_attention_reference
from prfaas_kernels.paged_decode_attention.splits import choose_splits
from prfaas_kernels.paged_decode_attention.triton import paged_decode_attention, paged_decode_partial
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.scattered_pages import scattered_pages

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1e-2}
LENGTHS = [1, 63, 600, 65, 200]


def tokens(
    lengths: list[int], device: torch.device, groups: int = 2, size: int = 32, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    return [torch.randn(length, groups, size, device=device).to(dtype) for length in lengths]


def expected(q: Tensor, keys: list[Tensor], values: list[Tensor], scale: float, sinks: Tensor | None = None) -> Tensor:
    parts = [
        gqa_reference(q[i, None], k, v, scale, sinks=sinks) for i, (k, v) in enumerate(zip(keys, values, strict=True))
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "groups", "key", "value"), [(4, 2, 64, 64), (4, 4, 24, 20), (3, 1, 96, 32), (6, 2, 16, 80)]
)
def test_heads_of_all_sizes(
    heads: int, groups: int, key: int, value: int, dtype: torch.dtype, device: torch.device
) -> None:
    keys, values = (tokens(LENGTHS, device, groups, size, dtype) for size in (key, value))
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    q = torch.randn(len(LENGTHS), 2 * heads, key + 3, device=device).to(dtype)[:, ::2, :key]
    out = paged_decode_attention(q, k_pages, v_pages, table, torch.tensor(LENGTHS, device=device), 0.2)
    assert out.dtype is dtype
    assert error_ratio(out, expected(q, keys, values, 0.2)) < TOLERANCE[dtype]


@pytest.mark.parametrize("page_tokens", [1, 7, 64, 128])
def test_pages_of_all_sizes(page_tokens: int, device: torch.device) -> None:
    lengths = [130, 1, 300]
    keys, values = tokens(lengths, device), tokens(lengths, device)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=page_tokens)
    q = torch.randn(3, 4, 32, device=device)
    out = paged_decode_attention(q, k_pages, v_pages, table, torch.tensor(lengths, device=device), 0.2)
    assert error_ratio(out, expected(q, keys, values, 0.2)) < 5e-6


def test_more_queries_of_a_key_than_a_program_takes(device: torch.device) -> None:
    keys, values = tokens([70, 100], device, groups=2, size=16), tokens([70, 100], device, groups=2, size=512)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    q = torch.randn(2, 2 * 21, 16, device=device)
    out = paged_decode_attention(q, k_pages, v_pages, table, torch.tensor([70, 100], device=device), 0.25)
    assert error_ratio(out, expected(q, keys, values, 0.25)) < 5e-6


def test_sequences_that_share_pages(device: torch.device) -> None:
    keys, values = tokens([150], device), tokens([150], device)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    q, lengths = torch.randn(3, 4, 32, device=device), torch.tensor([150, 64, 100], device=device)
    out = paged_decode_attention(q, k_pages, v_pages, table.expand(3, -1), lengths, 0.2)
    seen_k, seen_v = ([x[0][:length] for length in lengths.tolist()] for x in (keys, values))
    assert error_ratio(out, expected(q, seen_k, seen_v, 0.2)) < 5e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinks_and_gates(dtype: torch.dtype, device: torch.device) -> None:
    keys, values = tokens(LENGTHS, device, dtype=dtype), tokens(LENGTHS, device, dtype=dtype)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    q = torch.randn(len(LENGTHS), 4, 32, device=device).to(dtype)
    sinks, gate = 3 * torch.randn(4, device=device), torch.randn(len(LENGTHS), 8, 33, device=device).to(dtype)
    gate = gate[:, 1::2, :32]
    out = paged_decode_attention(
        q, k_pages, v_pages, table, torch.tensor(LENGTHS, device=device), 0.2, sinks=sinks, gate=gate
    )
    wanted = expected(q, keys, values, 0.2, sinks) * gate.float().sigmoid()
    assert error_ratio(out, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("peak", [1e3, 1e-3])
def test_scores_far_apart_and_all_alike(peak: float, device: torch.device) -> None:
    keys, values = tokens([600], device), tokens([600], device)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    q = peak * torch.randn(1, 4, 32, device=device)
    out = paged_decode_attention(q, k_pages, v_pages, table, torch.tensor([600], device=device), 0.2)
    assert error_ratio(out, expected(q, keys, values, 0.2)) < 1e-3


def test_no_sequences(device: torch.device) -> None:
    pages = torch.full((1, 64, 2, 32), torch.nan, device=device)
    table, lengths = (torch.zeros(*shape, dtype=torch.int64, device=device) for shape in ((0, 3), (0,)))
    out = paged_decode_attention(torch.zeros(0, 4, 32, device=device), pages, pages, table, lengths, 0.2)
    assert out.shape == (0, 4, 32)


def partial_of(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Partial:
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=64)
    lengths = torch.tensor([len(k) for k in keys], device=q.device)
    return paged_decode_partial(q, k_pages, v_pages, table, lengths, 0.2)


def test_a_request_on_three_instances(device: torch.device) -> None:
    """As in DistAttention (Infinite-LLM, arXiv 2401.02669): whoever holds keys answers for them alone."""
    keys, values = tokens([500, 64, 70], device), tokens([500, 64, 70], device)
    held = ([300, 0, 64], [0, 0, 0], [200, 64, 6])  # tokens of each request on each instance
    q, parts, taken = torch.randn(3, 4, 32, device=device), [], [0, 0, 0]
    for mine in held:
        cut = [slice(start, start + n) for start, n in zip(taken, mine, strict=True)]
        parts.append(partial_of(q, *([x[i][where] for i, where in enumerate(cut)] for x in (keys, values))))
        taken = [start + n for start, n in zip(taken, mine, strict=True)]
    stacked = (torch.stack([getattr(part, name) for part in parts]) for name in ("out", "peak", "total"))
    out = merge_partials(*stacked, dtype=torch.float32)
    for i, (k, v) in enumerate(zip(keys, values, strict=True)):
        by_head = (q[i, None, :, None], k.transpose(0, 1)[None], v.transpose(0, 1)[None])
        theirs = scaled_dot_product_attention(*by_head, scale=0.2, enable_gqa=True)
        assert error_ratio(out[i], theirs[0, :, 0]) < 5e-6


def test_partials_are_what_they_say(device: torch.device) -> None:
    lengths = [0, 1, 600]
    keys, values = tokens(lengths, device), tokens(lengths, device)
    q = torch.randn(3, 4, 32, device=device)
    part = partial_of(q, keys, values)
    assert part.out[0].eq(0).all()
    assert part.peak[0].eq(-torch.inf).all()
    assert part.total[0].eq(0).all()
    for i in (1, 2):
        scores = torch.einsum("hd,lhd->hl", q[i], keys[i].repeat_interleave(2, dim=1)) * 0.2
        weights = (scores - scores.amax(1, keepdim=True)).exp()
        assert error_ratio(part.peak[i], scores.amax(1)) < 5e-6
        assert error_ratio(part.total[i], weights.sum(1)) < 5e-6
        mixed = torch.einsum("hl,lhd->hd", weights, values[i].repeat_interleave(2, dim=1))
        assert error_ratio(part.out[i], mixed) < 5e-6


def test_reference_agrees_with_sdpa(device: torch.device) -> None:
    keys, values = tokens([77], device), tokens([77], device)
    k_pages, v_pages, table = scattered_pages(keys, values, page_tokens=16)
    q, lengths = torch.randn(1, 4, 32, device=device), torch.tensor([77], device=device)
    ours = paged_decode_attention_reference(q, k_pages, v_pages, table, lengths, 0.2)
    k, v = (x[0].transpose(0, 1)[None] for x in (keys, values))
    theirs = scaled_dot_product_attention(q[:, :, None], k, v, scale=0.2, enable_gqa=True)
    assert error_ratio(ours, theirs[:, :, 0]) < 1e-6


@pytest.mark.parametrize("programs", [0, 1, 8, 300, 5000])
@pytest.mark.parametrize("capacity", [0, 1, 255, 8192, 131072, 1 << 20])
def test_splits_fill_a_gpu_and_no_more(programs: int, capacity: int) -> None:
    splits = choose_splits(programs, capacity, slots=264, split_bytes=100 * programs)
    assert splits.count >= 1
    assert splits.count * splits.least_tokens < capacity + splits.least_tokens or splits.count == 1
    assert -(-capacity // splits.count) <= 4096
    assert splits.count * programs <= 264 or splits.count <= max(1, -(-capacity // 4096))


@pytest.mark.parametrize("sequences", [1, 128, 4096])
def test_results_of_splits_stay_within_memory(sequences: int) -> None:
    split_bytes = 4 * sequences * 128 * 514
    splits = choose_splits(2 * sequences, 1 << 20, slots=132, split_bytes=split_bytes)
    assert splits.count == 1 or splits.count * split_bytes <= 512 << 20
    assert splits.count * sequences >= 64
