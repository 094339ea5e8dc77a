import pytest
import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d import conv_decode, conv_prefill, conv_reference
from tests.kernels.error_ratio import error_ratio

CHANNELS, TAPS = 24, 4

pytestmark = pytest.mark.usefixtures("form")


def inputs(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(tokens, CHANNELS), torch.randn(TAPS, CHANNELS), torch.randn(TAPS - 1, CHANNELS)


@pytest.mark.parametrize("tokens", [1, 2, 3, 63, 64, 65, 200])
def test_prefill_agrees_with_reference(tokens: int) -> None:
    x, weight, state = inputs(tokens)
    out, new_state = conv_prefill(x, weight, state)
    expected, expected_state = conv_reference(x, weight, state)
    assert error_ratio(out, expected) < 1e-6
    assert torch.equal(new_state, expected_state)


@pytest.mark.parametrize("cut", [1, 2, 64, 199])
def test_cut_in_two_equals_one_go(cut: int) -> None:
    x, weight, state = inputs(200)
    whole, _ = conv_prefill(x, weight, state)
    first, middle = conv_prefill(x[:cut], weight, state)
    second, _ = conv_prefill(x[cut:], weight, middle)
    assert error_ratio(torch.cat([first, second]), whole) < 1e-6


def test_reads_a_strided_input() -> None:
    x, weight, state = inputs(65)
    wide = torch.full((65, CHANNELS + 5), torch.nan)
    wide[:, 2:-3] = x
    assert torch.equal(conv_prefill(wide[:, 2:-3], weight, state)[0], conv_prefill(x, weight, state)[0])


def test_decode_is_prefill_of_one_token_for_each_sequence() -> None:
    x, weight, _ = inputs(5)
    states = torch.randn(5, TAPS - 1, CHANNELS)
    out, new_states = conv_decode(x, weight, states)
    for i in range(5):
        expected, expected_state = conv_prefill(x[i : i + 1], weight, states[i])
        assert error_ratio(out[i : i + 1], expected) < 1e-6
        assert torch.equal(new_states[i], expected_state)


@pytest.mark.parametrize("taps", [2, 4, 9])
def test_bfloat16(taps: int) -> None:
    x, weight, state = (torch.randn(n, CHANNELS).bfloat16() for n in (70, taps, taps - 1))
    out, new_state = conv_prefill(x, weight, state)
    expected, expected_state = conv_reference(x, weight, state)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, expected) < 1e-2
    assert torch.equal(new_state.float(), expected_state)


def test_state_is_not_written_to() -> None:
    x, weight, state = inputs(5)
    kept = state.clone()
    conv_prefill(x, weight, state)
    assert torch.equal(state, kept)
