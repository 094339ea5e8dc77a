import math
import warnings

import pytest
import torch
from torch import Tensor

from prfaas_kernels.kimi_delta_attention import (
    kda_decode,
    kda_log_decay,
    kda_prefill,
    kda_reference,
)
from tests.kernels.error_ratio import error_ratio

HEADS, KEY, VALUE = 3, 16, 24
TOKENS = [1, 2, 15, 16, 17, 63, 64, 65, 200, 700]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

both_forms = pytest.mark.usefixtures("form")


def inputs(tokens: int, a_log: float = 0.0, spread: float = 1.0) -> Inputs:
    """q, k, v, log decay, beta, state; `spread` widens the range of decays within a sequence."""
    q, k = torch.randn(2, tokens, HEADS, KEY)
    x = torch.randn(tokens, HEADS * KEY) * spread
    log_decay = kda_log_decay(x, torch.full((HEADS,), a_log), torch.randn(HEADS * KEY))
    v, beta = torch.randn(tokens, HEADS, VALUE), torch.randn(tokens, HEADS).sigmoid()
    return q, k, v, log_decay, beta, torch.randn(HEADS, KEY, VALUE)


@both_forms
@pytest.mark.parametrize("tokens", TOKENS)
def test_prefill_agrees_with_reference(tokens: int) -> None:
    args = inputs(tokens)
    kept = args[-1].clone()
    out, state = kda_prefill(*args)
    expected, expected_state = kda_reference(*args)
    assert error_ratio(out, expected) < 2e-6
    assert error_ratio(state, expected_state) < 2e-6
    assert torch.equal(args[-1], kept)


@both_forms
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_strong_decays_neither_overflow_nor_lose_precision(tokens: int, spread: float) -> None:
    args = inputs(tokens, a_log=math.log(16), spread=spread)
    out, state = kda_prefill(*args)
    expected, expected_state = kda_reference(*args)
    assert error_ratio(out, expected) < 2e-6
    assert error_ratio(state, expected_state) < 2e-6


@both_forms
def test_weak_decay_next_to_a_total_one() -> None:
    q, k, v, _, beta, state = inputs(130)
    log_decay = torch.full((130, HEADS, KEY), -1e-3)
    log_decay[::20] = -1e6
    args = (q, k, v, log_decay, beta, state)
    assert error_ratio(kda_prefill(*args)[0], kda_reference(*args)[0]) < 2e-6


@both_forms
def test_equal_keys_fully_overwritten_without_decay() -> None:
    _, _, v, _, _, state = inputs(200)
    k = torch.randn(1, HEADS, KEY).expand(200, -1, -1)
    args = (k, k, v, torch.zeros(200, HEADS, KEY), torch.ones(200, HEADS), state)
    out, final = kda_prefill(*args)
    expected, expected_final = kda_reference(*args)
    assert error_ratio(out, expected) < 5e-6
    assert error_ratio(final, expected_final) < 5e-6


@both_forms
@pytest.mark.parametrize("cut", [1, 63, 64, 65, 199])
def test_cut_in_two_equals_one_go(cut: int) -> None:
    q, k, v, log_decay, beta, state = inputs(200)
    whole, final = kda_prefill(q, k, v, log_decay, beta, state)
    first, middle = kda_prefill(q[:cut], k[:cut], v[:cut], log_decay[:cut], beta[:cut], state)
    second, end = kda_prefill(q[cut:], k[cut:], v[cut:], log_decay[cut:], beta[cut:], middle)
    assert error_ratio(torch.cat([first, second]), whole) < 2e-6
    assert error_ratio(end, final) < 2e-6


@both_forms
def test_decode_is_one_step_of_each_sequence() -> None:
    batch = [inputs(1, a_log=a_log) for a_log in (0.0, 1.0, math.log(16))]
    q, k, v, log_decay, beta = (torch.cat(parts) for parts in list(zip(*batch, strict=True))[:5])
    states = torch.stack([args[-1] for args in batch])
    out, new_states = kda_decode(q, k, v, log_decay, beta, states.clone())
    for i, args in enumerate(batch):
        expected, expected_state = kda_reference(*args)
        assert error_ratio(out[i : i + 1], expected) < 2e-6
        assert error_ratio(new_states[i], expected_state) < 2e-6


@both_forms
def test_bfloat16_inputs_of_a_wide_head() -> None:
    q, k, v = (torch.randn(70, HEADS, 80).bfloat16() for _ in range(3))
    log_decay, beta = -torch.rand(70, HEADS, 80), torch.rand(70, HEADS)
    args = (q, k, v, log_decay, beta, torch.randn(HEADS, 80, 80))
    out, state = kda_prefill(*args)
    expected, expected_state = kda_reference(*args)
    assert error_ratio(out, expected) < 2e-6
    assert error_ratio(state, expected_state) < 2e-6


@both_forms
def test_log_decay_agrees_with_its_definition() -> None:
    x, a_log, dt_bias = 5 * torch.randn(70, 2 * 24).bfloat16(), torch.randn(2), torch.randn(2 * 24)
    wide = torch.nn.functional.pad(x, (3, 4))[:, 3:-4]
    softplus = torch.unflatten(torch.log1p((x.double() + dt_bias).exp()), 1, (2, 24))
    decay = kda_log_decay(wide, a_log, dt_bias)
    assert ((decay + a_log.exp()[:, None] * softplus).abs() <= 1e-6 * decay.abs()).all()


@both_forms
def test_log_decay_is_finite_for_extreme_inputs() -> None:
    x = torch.tensor([[-1e4, -50.0, 0.0, 30.0, 1e4, 88.0]])
    decay = kda_log_decay(x, torch.full((2,), math.log(16)), torch.zeros(6))
    assert decay.shape == (1, 2, 3)
    assert decay.isfinite().all()
    assert (decay <= 0).all()


@pytest.mark.parametrize("name", ["recurrent_kimi_delta_attention", "chunk_kimi_delta_attention"])
def test_reference_agrees_with_transformers(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from transformers.models.kimi_linear import modeling_kimi_linear  # noqa: PLC0415 - slow import, one test
    args = inputs(130)
    q, k, v, log_decay, beta, state = (x[None] for x in args)
    theirs, their_state = getattr(modeling_kimi_linear, name)(
        q, k, v, g=log_decay, beta=beta, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    out, final = kda_reference(*args)
    assert error_ratio(out, theirs[0]) < 1e-5
    assert error_ratio(final, their_state[0]) < 1e-5
