import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prfaas_kernels.gqa import gqa_prefill, gqa_reference, ring_read, ring_write
from prfaas_kernels.paged_decode_attention import paged_decode_attention
from tests.kernels.error_ratio import error_ratio

KEY, VALUE, PAGE = 24, 20, 16
SCALE = KEY**-0.5
HEADS = [(4, 4), (4, 1), (6, 2)]


def inputs(tokens: int, length: int, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    return 3 * torch.randn(tokens, heads, KEY), torch.randn(length, groups, KEY), torch.randn(length, groups, VALUE)


def test_reference_agrees_with_sdpa() -> None:
    q, k, v = inputs(65, 65, 6, 2)
    by_head = [x.transpose(0, 1)[None] for x in (q, k, v)]
    theirs = scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], is_causal=True, enable_gqa=True)
    assert error_ratio(gqa_reference(q, k, v, SCALE), theirs[0].transpose(0, 1)) < 1e-6


def test_reference_window_and_sinks_by_hand() -> None:
    q, k = torch.zeros(3, 1, KEY), torch.randn(3, 1, KEY)  # all weights are equal
    v = torch.tensor([3.0, 6.0, 30.0])[:, None, None]
    assert gqa_reference(q, k, v, SCALE, window=2).flatten().tolist() == pytest.approx([3, 4.5, 18])
    assert gqa_reference(q, k, v, SCALE, sinks=torch.zeros(1)).flatten().tolist() == pytest.approx([1.5, 3, 9.75])


@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize("context", [0, 1, 63, 64, 500])
@pytest.mark.parametrize(("heads", "groups"), HEADS)
def test_prefill_agrees_with_reference(tokens: int, context: int, heads: int, groups: int) -> None:
    q, k, v = inputs(tokens, context + tokens, heads, groups)
    assert error_ratio(gqa_prefill(q, k, v, SCALE)[0], gqa_reference(q, k, v, SCALE)) < 2e-6


@pytest.mark.parametrize("window", [1, 2, 64, 100, 1000])
@pytest.mark.parametrize(("tokens", "context"), [(1, 0), (1, 500), (65, 0), (65, 64), (300, 63), (300, 500)])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_prefill_with_windows_and_sinks(window: int, tokens: int, context: int, with_sinks: bool) -> None:
    q, k, v = inputs(tokens, context + tokens, 6, 2)
    sinks = 3 * torch.randn(6) if with_sinks else None
    k[: max(0, context - window + 1)] = torch.nan  # what no query sees is not read
    v[: max(0, context - window + 1)] = torch.nan
    out, _ = gqa_prefill(q, k, v, SCALE, sinks=sinks, window=window)
    expected = gqa_reference(q, k.nan_to_num(), v.nan_to_num(), SCALE, sinks=sinks, window=window)
    assert error_ratio(out, expected) < 2e-6


@pytest.mark.parametrize("window", [None, 1100, 2100])
def test_prefill_joins_spans_of_a_long_context(window: int | None) -> None:
    q, k, v = inputs(70, 2500, 4, 2)
    sinks = torch.randn(4)
    out, _ = gqa_prefill(q, k, v, SCALE, sinks=sinks, window=window)
    assert error_ratio(out, gqa_reference(q, k, v, SCALE, sinks=sinks, window=window)) < 2e-6


def test_prefill_in_shapes_that_go_to_onednn() -> None:
    q, k, v = (x.repeat_interleave(4, -1) for x in inputs(200, 700, 8, 2))
    assert error_ratio(gqa_prefill(q, k, v, SCALE / 4)[0], gqa_reference(q, k, v, SCALE / 4)) < 5e-6


def test_prefill_of_huge_scores() -> None:
    q, k, v = inputs(65, 300, 4, 2)
    out, _ = gqa_prefill(q, k, v, 1e4, sinks=torch.full((4,), -1e4))
    assert error_ratio(out, gqa_reference(q, k, v, 1e4, sinks=torch.full((4,), -1e4))) < 1e-4


@pytest.mark.parametrize("tokens", [5, 65, 300])
@pytest.mark.parametrize("window", [None, 100])
def test_prefill_in_bfloat16(tokens: int, window: int | None) -> None:
    q, k, v = (x.bfloat16() for x in inputs(tokens, 400, 4, 2))
    out, _ = gqa_prefill(q, k, v, SCALE, window=window)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, gqa_reference(q, k, v, SCALE, window=window)) < 5e-3


def test_prefill_reads_strided_inputs_and_leaves_them_alone() -> None:
    packed = torch.randn(100, 6 * KEY + 2 * KEY + 2 * VALUE)
    before = packed.clone()
    q, k, v = torch.split(packed, [6 * KEY, 2 * KEY, 2 * VALUE], dim=1)
    q, k, v = (torch.unflatten(x, 1, (-1, width)) for x, width in ((q, KEY), (k, KEY), (v, VALUE)))
    assert error_ratio(gqa_prefill(q, k, v, SCALE)[0], gqa_reference(q, k, v, SCALE)) < 2e-6
    assert torch.equal(packed, before)


def paged(k: list[Tensor], v: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Scatters sequences over pages; NaN wherever there is no token, and where the table points past an end."""
    counts = [-(-len(x) // PAGE) for x in k]
    free = iter((torch.randperm(sum(counts)) + 1).tolist())
    pages = sum(counts) + 1
    k_cache = torch.full((pages, 2 * PAGE, k[0].shape[1], KEY), torch.nan)[:, :PAGE]  # strided
    v_cache = torch.full((pages, PAGE, k[0].shape[1], VALUE), torch.nan)
    table = torch.zeros(len(k), max(counts) + 1, dtype=torch.int64)
    for i, count in enumerate(counts):
        for page in range(count):
            table[i, page] = next(free)
            for cache, x in ((k_cache, k[i]), (v_cache, v[i])):
                part = x[page * PAGE : (page + 1) * PAGE]
                cache[table[i, page], : len(part)] = part
    return k_cache, v_cache, table


@pytest.mark.parametrize(
    "lengths", [[1], [64], [1, 15, 16, 17, 100], [100] * 9, [5000], [3, 12000, 90, 91, 92, 11990, 1]]
)
@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("with_sinks", [False, True])
def test_decode_over_scattered_pages_full_of_nan(lengths: list[int], heads: int, groups: int, with_sinks: bool) -> None:
    sequences = [inputs(1, length, heads, groups) for length in lengths]
    sinks = 3 * torch.randn(heads) if with_sinks else None
    k_cache, v_cache, table = paged([k for _, k, _ in sequences], [v for _, _, v in sequences])
    before = v_cache.clone()
    q = torch.cat([q for q, _, _ in sequences])
    out = paged_decode_attention(q, k_cache, v_cache, table, torch.tensor(lengths), SCALE, sinks=sinks)
    expected = torch.cat([gqa_reference(q, k, v, SCALE, sinks=sinks) for q, k, v in sequences])
    assert error_ratio(out, expected) < 2e-6
    assert torch.equal(v_cache.nan_to_num(), before.nan_to_num())
    assert torch.equal(v_cache.isnan(), before.isnan())


def test_decode_in_bfloat16() -> None:
    lengths = [40, 33, 3000]
    sequences = [inputs(1, length, 6, 2) for length in lengths]
    k_cache, v_cache, table = paged([k for _, k, _ in sequences], [v for _, _, v in sequences])
    q = torch.cat([q for q, _, _ in sequences]).bfloat16()
    out = paged_decode_attention(q, k_cache.bfloat16(), v_cache.bfloat16(), table, torch.tensor(lengths), SCALE)
    rounded = [(q.bfloat16(), k.bfloat16(), v.bfloat16()) for q, k, v in sequences]
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, torch.cat([gqa_reference(q, k, v, SCALE) for q, k, v in rounded])) < 5e-3


@pytest.mark.parametrize("width", [1, 7, 64])
@pytest.mark.parametrize("sizes", [[1, 1, 1], [5, 7, 8], [64, 1, 63], [200, 3, 100], [7, 7]])
def test_rings_return_the_last_tokens_in_order(width: int, sizes: list[int]) -> None:
    ring, tokens = torch.full((width, 2), torch.nan), torch.arange(2.0 * sum(sizes)).view(-1, 2)
    context = 0
    for size in sizes:
        ring_write(ring, tokens[context : context + size], context)
        context += size
        last = tokens[max(0, context - width) : context]
        assert torch.equal(ring_read(ring, context), last)
        assert all(torch.equal(ring[p % width], tokens[p]) for p in range(max(0, context - width), context))


def test_chunked_window_prefill_from_rings_agrees_with_one_prefill() -> None:
    width = 16
    q, k, v = inputs(100, 100, 6, 2)
    k_ring, v_ring = torch.full((width, 2, KEY), torch.nan), torch.full((width, 2, VALUE), torch.nan)
    parts, context = [], 0
    for size in (1, 10, 40, 49):
        new = slice(context, context + size)
        keys, values = torch.cat([ring_read(k_ring, context), k[new]]), torch.cat([ring_read(v_ring, context), v[new]])
        parts.append(gqa_prefill(q[new], keys, values, SCALE, window=width)[0])
        ring_write(k_ring, k[new], context)
        ring_write(v_ring, v[new], context)
        context += size
    assert error_ratio(torch.cat(parts), gqa_reference(q, k, v, SCALE, window=width)) < 2e-6
