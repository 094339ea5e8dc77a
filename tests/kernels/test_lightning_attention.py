import pytest
import torch
from torch import Tensor

from prfaas_kernels.lightning_attention import lightning_decode, lightning_prefill, lightning_reference
from tests.kernels.error_ratio import error_ratio
from tests.kernels.scattered_rows import scattered_rows

HEADS, KEY, VALUE = 3, 16, 20


def inputs(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(tokens, HEADS, KEY), torch.randn(tokens, HEADS, KEY), torch.randn(tokens, HEADS, VALUE)


def decays() -> Tensor:
    return torch.tensor([-1.0, -0.05, 0.0])


@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize("log_decay", [0.0, -0.01, -1.0, -200.0])
def test_prefill_is_exact_for_weak_and_strong_decays(tokens: int, log_decay: float) -> None:
    q, k, v = inputs(tokens)
    decay, state = torch.tensor([log_decay, log_decay / 3, -0.5]), torch.randn(HEADS, KEY, VALUE)
    before = state.clone()
    out, after = lightning_prefill(q, k, v, decay, state)
    assert torch.equal(state, before)
    expected, expected_after = lightning_reference(q, k, v, decay, state)
    assert error_ratio(out, expected) < 2e-6
    assert error_ratio(after, expected_after) < 2e-6


def test_a_sequence_may_be_cut_anywhere() -> None:
    q, k, v = inputs(150)
    state = torch.zeros(HEADS, KEY, VALUE)
    whole, after = lightning_prefill(q, k, v, decays(), state)
    parts = []
    for part in (slice(0, 1), slice(1, 70), slice(70, 150)):
        out, state = lightning_prefill(q[part], k[part], v[part], decays(), state)
        parts.append(out)
    assert error_ratio(torch.cat(parts), whole) < 2e-6
    assert error_ratio(state, after) < 2e-6


def test_prefill_in_bfloat16_computes_in_fp32() -> None:
    q, k, v = (x.bfloat16() for x in inputs(100))
    out, after = lightning_prefill(q, k, v, decays(), torch.zeros(HEADS, KEY, VALUE))
    expected, expected_after = lightning_reference(q, k, v, decays(), torch.zeros(HEADS, KEY, VALUE))
    assert error_ratio(out, expected) < 2e-6
    assert error_ratio(after, expected_after) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_is_a_step_of_the_reference_in_place(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in inputs(5))  # one token for each of five sequences
    state = torch.randn(5, HEADS, KEY, VALUE)
    rows = scattered_rows(state)
    steps = [lightning_reference(q[i : i + 1], k[i : i + 1], v[i : i + 1], decays(), state[i]) for i in range(5)]
    out = lightning_decode(q, k, v, decays(), rows)
    assert out.dtype == dtype
    assert error_ratio(out, torch.cat([step[0] for step in steps])) < (2e-6 if dtype == torch.float32 else 3e-3)
    assert error_ratio(rows.load_all(), torch.stack([step[1] for step in steps])) < 2e-6
