"""A delta rule layer's decode in Triton against its reference."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from prfaas_kernels.delta_decode import DeltaLayer
from prfaas_kernels.delta_decode.reference import delta_decode_reference
from prfaas_kernels.delta_decode.triton import delta_decode
from tests.kernels.error_ratio import error_ratio
from tests.kernels.test_delta_decode import Case, Sizes, make_case, poison

TOLERANCE = 1e-5
"""In fp32. Exponentials of a GPU are some units in the last place off."""


def on(device: torch.device, case: Case) -> Case:
    """The same on another device."""

    def moved(x: Case | DeltaLayer) -> dict[str, Any]:
        found = {field.name: getattr(x, field.name) for field in fields(x)}
        return {name: value.to(device) for name, value in found.items() if isinstance(value, Tensor)}

    return replace(case, layer=replace(case.layer, **moved(case.layer)), **moved(case))


def run(case: Case) -> Tensor:
    rows = (case.qkv, case.gate, case.decay, case.beta)
    return delta_decode(*rows, case.layer, case.arena, case.state_rows, case.conv_rows)


def assert_steps(case: Case, tolerance: float, state_tolerance: float) -> None:
    rows = (case.qkv, case.gate, case.decay, case.beta)
    out, states, inputs = delta_decode_reference(*rows, case.layer, case.states(), case.convs())
    found = run(case)
    assert found.dtype == case.qkv.dtype
    assert error_ratio(found, out) < tolerance
    assert error_ratio(case.states(), states) < state_tolerance
    assert torch.equal(case.convs().float(), inputs)


@pytest.mark.parametrize("sizes", [(2, 16, 6, 24), (1, 5, 2, 3), (1, 128, 2, 128), (1, 40, 2, 130)])
@pytest.mark.parametrize("of_ranks", [False, True])
def test_a_decay_for_each_head(sizes: Sizes, of_ranks: bool, device: torch.device) -> None:
    assert_steps(on(device, make_case(3, sizes, by_channel=False, of_ranks=of_ranks)), TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("sizes", [(4, 16, 4, 16), (3, 12, 3, 12), (2, 128, 2, 128)])
@pytest.mark.parametrize("of_ranks", [False, True])
def test_a_decay_for_each_channel(sizes: Sizes, of_ranks: bool, device: torch.device) -> None:
    assert_steps(on(device, make_case(3, sizes, by_channel=True, of_ranks=of_ranks)), TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("by_channel", [False, True])
def test_batches_in_bfloat16(batch: int, by_channel: bool, device: torch.device) -> None:
    assert_steps(on(device, make_case(batch, (2, 32, 2, 32), by_channel, torch.bfloat16)), 1e-2, TOLERANCE)


@pytest.mark.parametrize("taps", [2, 3, 8])
def test_taps(taps: int, device: torch.device) -> None:
    assert_steps(on(device, make_case(2, (2, 16, 2, 16), by_channel=False, taps=taps)), TOLERANCE, TOLERANCE)


def test_several_steps_in_a_row(device: torch.device) -> None:
    case = on(device, make_case(2, (2, 16, 4, 16), by_channel=False))
    for _ in range(6):
        assert_steps(case, TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("by_channel", [False, True])
def test_strong_decays_and_closed_gates(by_channel: bool, device: torch.device) -> None:
    case = make_case(2, (2, 16, 2, 16), by_channel)
    case.decay.mul_(1000)
    case.beta.mul_(20)
    case.gate.mul_(20)
    assert_steps(on(device, case), TOLERANCE, TOLERANCE)


def test_no_sequences(device: torch.device) -> None:
    case = on(device, make_case(1, (2, 16, 2, 16), by_channel=False))
    rows = ("qkv", "gate", "decay", "beta", "state_rows", "conv_rows")
    assert run(replace(case, **{name: getattr(case, name)[:0] for name in rows})).shape == (0, 32)


@pytest.mark.parametrize("of_ranks", [False, True])
def test_nothing_else_is_touched(of_ranks: bool, device: torch.device) -> None:
    case = on(device, make_case(3, (2, 16, 6, 24), by_channel=False, of_ranks=of_ranks))
    before = case.arena.clone()
    assert not run(case).isnan().any()
    size = case.qkv.element_size()
    for arena in (before, case.arena):
        for start, stop in case.layer.ranges:
            poison(arena, case.conv_rows + start * size, (stop - start) * size)
        poison(arena, case.state_rows, 4 * case.layer.key * case.layer.value)
    assert torch.equal(case.arena, before)
