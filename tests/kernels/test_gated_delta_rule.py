import math

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gated_delta_rule import gdn_decode, gdn_log_decay, gdn_prefill, gdn_reference
from tests.kernels.error_ratio import error_ratio

KEY_HEADS, HEADS, KEY, VALUE = 2, 6, 16, 24
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

pytestmark = pytest.mark.usefixtures("form")


def inputs(tokens: int, a_log: float = 0.0, spread: float = 1.0, key: int = KEY, value: int = VALUE) -> Inputs:
    """q, k, v, log decay, beta, state; `spread` widens the range of decays within a sequence."""
    q, k = torch.randn(2, tokens, KEY_HEADS, key)
    log_decay = gdn_log_decay(torch.randn(tokens, HEADS) * spread, torch.full((HEADS,), a_log), torch.randn(HEADS))
    v, beta = torch.randn(tokens, HEADS, value), torch.randn(tokens, HEADS).sigmoid()
    return q, k, v, log_decay, beta, torch.randn(HEADS, key, value)


def assert_close(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-6) -> None:
    """Outputs and states."""
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == torch.float32
        assert error_ratio(ours, theirs) < tolerance


@pytest.mark.parametrize("tokens", [1, 2, 15, 17, 63, 64, 65, 200, 700])
def test_prefill_agrees_with_reference(tokens: int) -> None:
    args = inputs(tokens)
    kept = args[-1].clone()
    assert_close(gdn_prefill(*args), gdn_reference(*args))
    assert torch.equal(args[-1], kept)


@pytest.mark.parametrize(("key", "value"), [(15, 7), (64, 64), (128, 80), (33, 130), (300, 16)])
def test_head_sizes(key: int, value: int) -> None:
    args = inputs(70, key=key, value=value)
    assert_close(gdn_prefill(*args), gdn_reference(*args))


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_strong_decays_neither_overflow_nor_lose_precision(tokens: int, spread: float) -> None:
    args = inputs(tokens, a_log=math.log(16), spread=spread)
    assert_close(gdn_prefill(*args), gdn_reference(*args))


def test_weak_decay_next_to_a_total_one() -> None:
    q, k, v, _, beta, state = inputs(130)
    log_decay = torch.full((130, HEADS), -1e-3)
    log_decay[::20] = -1e6
    args = (q, k, v, log_decay, beta, state)
    assert_close(gdn_prefill(*args), gdn_reference(*args))


def test_equal_keys_fully_overwritten_without_decay() -> None:
    _, _, v, _, _, state = inputs(200)
    k = torch.randn(1, KEY_HEADS, KEY).expand(200, -1, -1)
    args = (k, k, v, torch.zeros(200, HEADS), torch.ones(200, HEADS), state)
    assert_close(gdn_prefill(*args), gdn_reference(*args), tolerance=5e-6)


def test_slices_of_a_wider_bfloat16_projection() -> None:
    sizes = [KEY_HEADS * KEY, KEY_HEADS * KEY, HEADS * VALUE]
    mixed = torch.randn(90, sum(sizes) + 5).bfloat16()[:, 2:-3]
    q, k, v = torch.split(mixed, sizes, dim=-1)
    q, k, v = (torch.unflatten(x, 1, (-1, size)) for x, size in ((q, KEY), (k, KEY), (v, VALUE)))
    args = (q, k, v, *inputs(90)[3:])
    assert_close(gdn_prefill(*args), gdn_reference(*args))


@pytest.mark.parametrize("cut", [1, 63, 64, 65, 199])
def test_cut_in_two_equals_one_go(cut: int) -> None:
    q, k, v, log_decay, beta, state = inputs(200)
    first, middle = gdn_prefill(q[:cut], k[:cut], v[:cut], log_decay[:cut], beta[:cut], state)
    second, end = gdn_prefill(q[cut:], k[cut:], v[cut:], log_decay[cut:], beta[cut:], middle)
    assert_close((torch.cat([first, second]), end), gdn_prefill(q, k, v, log_decay, beta, state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_is_one_step_of_each_sequence(dtype: torch.dtype) -> None:
    batch = [inputs(1, a_log=a_log) for a_log in (0.0, 1.0, math.log(16))]
    q, k, v, log_decay, beta = (torch.cat(parts) for parts in list(zip(*batch, strict=True))[:5])
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    states = torch.stack([args[-1] for args in batch])
    kept = states.clone()
    out, updated = gdn_decode(q, k, v, log_decay, beta, states)
    assert updated is states
    for i in range(3):
        row = slice(i, i + 1)
        expected = gdn_reference(q[row], k[row], v[row], log_decay[row], beta[row], kept[i])
        assert_close((out[row], states[i]), expected)


def test_log_decay() -> None:
    a = torch.tensor([[-1e4, -50.0, 0.0], [30.0, 1e4, 88.0]])
    decay = gdn_log_decay(a, torch.full((3,), math.log(2)), torch.zeros(3))
    assert decay.isfinite().all()
    assert (decay <= 0).all()
    assert decay[0, 2].item() == pytest.approx(-2 * math.log(2))
