"""The fused decode of an attention layer against its parts' references, one sequence after another."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.gqa_decode_layer import GqaHeads, gqa_decode_layer
from prfaas_kernels.norm import rms_norm_reference
from prfaas_kernels.rotary import rotary_cos_sin, rotary_inverse_frequencies, rotary_reference
from tests.kernels.error_ratio import error_ratio

PAGE, THETA = 16, 1e4

pytestmark = pytest.mark.usefixtures("form")


@dataclass
class Case:
    layer: GqaHeads
    rows: Tensor
    rotated: int
    k_pages: Tensor
    v_pages: Tensor
    table: Tensor
    lengths: list[int]

    def run(self) -> Tensor:
        lengths = torch.tensor(self.lengths)
        angles = None
        if self.rotated:
            angles = rotary_cos_sin(lengths - 1, rotary_inverse_frequencies(self.rotated, THETA))
        return gqa_decode_layer(self.rows, self.layer, angles, self.k_pages, self.v_pages, self.table, lengths)

    def cached(self, i: int, pages: Tensor) -> Tensor:
        """[length, G, D]: what lies in a sequence's pages."""
        return pages[self.table[i]].flatten(0, 1)[: self.lengths[i]]


def make_case(
    lengths: list[int],
    heads: int = 6,
    groups: int = 2,
    key: int = 24,
    value: int = 20,
    rotated: int = 0,
    interleaved: bool = False,
    norms: bool = False,
    gated: bool = False,
    sinks: bool = False,
    dtype: torch.dtype = torch.float32,
    page_tokens: int = PAGE,
) -> Case:
    """Caches are one rank's heads of a wider one; NaN wherever no token of a sequence lies, the new one's place too."""
    layer = GqaHeads(
        heads=heads,
        groups=groups,
        key=key,
        value=value,
        scale=key**-0.5,
        q_norm=3 * torch.rand(key).to(dtype) if norms else None,
        k_norm=3 * torch.rand(key).to(dtype) if norms else None,
        eps=1e-6,
        interleaved=interleaved,
        sinks=3 * torch.randn(heads) if sinks else None,
        gated=gated,
    )
    counts = [-(-length // page_tokens) for length in lengths]
    free = iter((torch.randperm(sum(counts)) + 1).tolist())
    k_pages = torch.full((sum(counts) + 1, page_tokens, 2 * groups, key), torch.nan, dtype=dtype)[:, :, groups:]
    v_pages = torch.full((sum(counts) + 1, page_tokens, 2 * groups, value), torch.nan, dtype=dtype)[:, :, :groups]
    table = torch.zeros(len(lengths), max(counts) + 2, dtype=torch.int64)[:, :-1]
    for i, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        for page in range(count):
            table[i, page] = next(free)
            held = min(page_tokens, length - 1 - page * page_tokens)
            k_pages[table[i, page], :held] = torch.randn(held, groups, key).to(dtype)
            v_pages[table[i, page], :held] = torch.randn(held, groups, value).to(dtype)
    wide = torch.full((len(lengths), sum(layer.widths) + 5), torch.nan, dtype=dtype)
    rows = wide[:, 2:-3]
    rows.copy_(2 * torch.randn(rows.shape))
    return Case(layer, rows, rotated, k_pages, v_pages, table, lengths)


def placed(case: Case, x: Tensor, heads: int, norm: Tensor | None, position: int) -> Tensor:
    """[heads, Dk] normalised and rotated, in fp32."""
    by_head = torch.unflatten(x.float(), 0, (heads, case.layer.key))
    if norm is not None:
        by_head = rms_norm_reference(by_head, norm, case.layer.eps)
    if case.rotated:
        turned = rotary_reference(by_head[None], torch.tensor([position]), case.rotated, THETA, case.layer.interleaved)
        by_head = turned[0].float()
    return by_head


def assert_decodes(case: Case, tolerance: float) -> None:
    layer, before = case.layer, (case.k_pages.clone(), case.v_pages.clone())
    out = case.run()
    assert out.dtype == case.rows.dtype
    wanted = []
    for i, length in enumerate(case.lengths):
        q, k, v, gate = torch.split(case.rows[i], layer.widths)
        q, k = (
            placed(case, x, heads, norm, length - 1)
            for x, heads, norm in ((q, layer.heads, layer.q_norm), (k, layer.groups, layer.k_norm))
        )
        keys, values = case.cached(i, before[0]).float(), case.cached(i, before[1]).float()
        keys[-1], values[-1] = k, v.float().view(values[-1].shape)
        assert error_ratio(case.cached(i, case.k_pages).float(), keys) < tolerance
        assert torch.equal(case.cached(i, case.v_pages).float(), values)
        mixed = gqa_reference(q[None], keys, values, layer.scale, sinks=layer.sinks).flatten()
        wanted.append(mixed * gate.float().sigmoid() if layer.gated else mixed)
    assert error_ratio(out, torch.stack(wanted)) < tolerance
    assert_rest_unchanged(case, before)


def assert_rest_unchanged(case: Case, before: tuple[Tensor, Tensor]) -> None:
    for pages, old in zip((case.k_pages, case.v_pages), before, strict=True):
        written = torch.zeros(pages.shape[:2], dtype=torch.bool)
        for i, length in enumerate(case.lengths):
            written[case.table[i, (length - 1) // pages.shape[1]], (length - 1) % pages.shape[1]] = True
        assert torch.equal(pages[~written].nan_to_num(), old[~written].nan_to_num())
        assert torch.equal(pages[~written].isnan(), old[~written].isnan())


@pytest.mark.parametrize(
    "lengths", [[1], [2], [16], [17], [1, 15, 16, 17, 63, 64, 65, 100], [33] * 64, [5000], [3, 3000, 511, 512, 513]]
)
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 1), (6, 2), (7, 1)])
def test_lengths_at_borders(lengths: list[int], heads: int, groups: int) -> None:
    assert_decodes(make_case(lengths, heads, groups), 2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("norms", [False, True])
def test_all_that_happens_to_heads(dtype: torch.dtype, interleaved: bool, norms: bool) -> None:
    tolerance = 3e-6 if dtype == torch.float32 else 1e-2
    for rotated in (0, 6, 24):
        case = make_case(
            [1, 40, 130], rotated=rotated, interleaved=interleaved, norms=norms, gated=True, sinks=True, dtype=dtype
        )
        assert_decodes(case, tolerance)


@pytest.mark.parametrize(("key", "value"), [(64, 64), (128, 128), (192, 128), (7, 3), (80, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_head_sizes(key: int, value: int, dtype: torch.dtype) -> None:
    case = make_case([70, 300], 8, 1, key, value, rotated=key // 4 * 2, norms=True, dtype=dtype)
    assert_decodes(case, 3e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("page_tokens", [1, 7, 64, 100])
def test_sizes_of_pages(page_tokens: int) -> None:
    assert_decodes(make_case([1, 99, 100, 101], page_tokens=page_tokens), 2e-6)


def test_scores_far_apart() -> None:
    case = make_case([300, 700], sinks=True)
    case.rows[:, : case.layer.widths[0]] *= 1000
    assert_decodes(case, 1e-4)


def test_many_queries_for_a_key() -> None:
    assert_decodes(make_case([40, 3], heads=65, groups=1), 2e-6)
