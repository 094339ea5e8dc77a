"""Top-k, top-p and min-p against a plain reference, also where only the likeliest tokens are looked at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.engine import truncation
from prfaas.engine.truncation import draw_at, draw_truncated

limits = st.tuples(st.integers(1, 40), st.sampled_from([1.0, 0.95, 0.5, 0.1]), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
# Few values, so that many tokens are equally likely.
logit_rows = st.lists(st.sampled_from([0.0, 0.5, 0.6, 2.0, 3.0, -4.0]), min_size=40, max_size=40)


def reference(probs: list[float], top_k: int, top_p: float, min_p: float) -> set[int]:
    """The ids that may be drawn."""
    ranked = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
    ranked = [i for i in ranked if probs[i] >= min_p * probs[ranked[0]]][:top_k]
    total = sum(probs[i] for i in ranked)
    kept: list[int] = []
    before = 0.0
    for i in ranked:
        if before < top_p * total - 1e-7:
            kept.append(i)
        before += probs[i]
    return set(kept)


def drawn(probs: torch.Tensor, limit: tuple[int, float, float], points: list[float]) -> list[int]:
    rows = probs.expand(len(points), -1)
    tokens = draw_truncated(rows, torch.tensor([limit] * len(points), dtype=torch.float64), points)
    return [int(token) for token in tokens]


@settings(max_examples=150)
@given(logit_rows, limits, st.sampled_from([(), (1,), (2, 8), (5,), (39,)]))
def test_exactly_what_the_rules_keep_can_be_drawn(
    row: list[float], limit: tuple[int, float, float], candidates: tuple[int, ...]
) -> None:
    probs = torch.tensor(row).softmax(-1)
    points = [i / 400 for i in range(400)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "CANDIDATES", candidates)
        found = drawn(probs, limit, points)
    patchless = drawn(probs, limit, points)
    assert found == patchless, "how many candidates are looked at first changes nothing"
    expected = reference(probs.double().tolist(), *limit)
    assert set(found) <= expected
    mass = probs[list(expected)]
    surely_hit = {i for i in expected if probs[i] / mass.sum() > 1 / 300}
    assert surely_hit <= set(found)


def test_rows_of_one_batch_may_need_more_candidates_than_others() -> None:
    torch.manual_seed(3)
    peaked, flat = torch.randn(5000) * 12, torch.randn(5000) * 0.01
    probs = torch.stack([peaked, flat, peaked, flat]).softmax(-1)
    limit = torch.tensor([[5000, 0.9, 0.0], [5000, 0.9, 0.0], [4500, 1.0, 0.0], [300, 1.0, 0.5]], dtype=torch.float64)
    points = [0.3, 0.7, 0.9999, 0.5]
    together = draw_truncated(probs, limit, points).tolist()
    alone = [int(draw_truncated(probs[i : i + 1], limit[i : i + 1], points[i : i + 1])) for i in range(4)]
    assert together == alone


@given(st.lists(st.sampled_from([0.0, 1e-30, 0.25, 1.0]), min_size=1, max_size=30).filter(any), st.floats(0, 1))
def test_a_point_never_falls_on_what_has_no_weight(weights: list[float], point: float) -> None:
    point = min(point, 1 - 2**-53)
    for dtype in (torch.float32, torch.float64):
        column = int(draw_at(torch.tensor([weights], dtype=dtype), [point]))
        assert weights[column] > 0
