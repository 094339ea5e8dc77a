"""Both delta rules over batches of spans in Triton against their references."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gated_delta_rule.triton import gdn_log_decay
from prfaas_kernels.kimi_delta_attention.triton import kda_log_decay
from prfaas_kernels.spans import Spans
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.delta_rule_case import RULES, DeltaRuleCase, make_case, tolerance

BATCH = ((150, 150), (3, 68), (70, 71), (80, 143), (154, 220))
"""An empty span, one that ends a row into its second chunk, one token, 63 and 66; in no order, with gaps."""


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("tokens", [1, 63, 65, 200])
def test_lengths(rule: str, tokens: int, device: torch.device) -> None:
    make_case(rule, device, ((2, 2 + tokens),)).assert_right()


@pytest.mark.parametrize(("heads", "sizes"), [((2, 2), (64, 48)), ((1, 1), (128, 128)), ((2, 4), (48, 80))])
def test_heads(rule: str, heads: tuple[int, int], sizes: tuple[int, int], device: torch.device) -> None:
    make_case(rule, device, ((0, 70),), heads=heads, sizes=sizes).assert_right()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_of_uneven_spans(rule: str, dtype: torch.dtype, device: torch.device) -> None:
    make_case(rule, device, BATCH, contexts=(5, 0, 64, 1, 0), dtype=dtype).assert_right()


def test_states_move_on_in_place_and_nothing_else_does(rule: str, device: torch.device) -> None:
    case = make_case(rule, device, BATCH, elsewhere=False)
    before = case.states.arena.clone()
    case.assert_right()
    case.states.store_all(case.before)
    assert torch.equal(case.states.arena, before)


def test_new_sequence_without_tokens_has_an_empty_state(rule: str, device: torch.device) -> None:
    case = make_case(rule, device, ((4, 4), (0, 1)), contexts=(0, 0))
    case.assert_right()
    assert not case.after()[0].any()


@pytest.mark.parametrize("num_spans", [0, 2])
def test_no_tokens(rule: str, num_spans: int, device: torch.device) -> None:
    case = make_case(rule, device, ((0, 1),) * 2)
    some = [1, 0][:num_spans]
    states = replace(case.states, read=case.states.read[some], written=case.states.written[some])
    case = replace(case, states=states, spans=Spans.of(((1, 1),) * num_spans, (7,) * num_spans, device))
    assert case.run().isnan().all()
    assert torch.equal(case.after(), case.before[some])


def test_sequence_cut_in_two(rule: str, device: torch.device) -> None:
    case = make_case(rule, device, ((0, 200),), contexts=(0,))
    whole = case.run()
    first = replace(case, spans=Spans.of(((0, 77),), (0,), device))
    moved = replace(case.states, read=case.states.written)
    second = replace(case, states=moved, spans=Spans.of(((77, 200),), (77,), device))
    end = case.after()
    both = torch.cat([first.run()[:77], second.run()[77:]])
    assert error_ratio(both[:200], whole[:200]) < tolerance(whole)
    assert error_ratio(case.after(), end) < tolerance(whole)


@pytest.mark.parametrize("strong", [-10.0, -1e3, -1e6])
def test_strong_decays_among_weak_ones(rule: str, strong: float, device: torch.device) -> None:
    """Nothing overflows, and what is weak is not lost in sums with what is strong."""
    case = make_case(rule, device, ((0, 130),))
    log_decay = torch.full_like(case.log_decay, -1e-3)
    log_decay[torch.rand(log_decay.shape, device=device) < 0.1] = strong
    replace(case, log_decay=log_decay).assert_right()


def test_total_decay(rule: str, device: torch.device) -> None:
    case = make_case(rule, device, ((0, 66),))
    replace(case, log_decay=torch.full_like(case.log_decay, -torch.inf)).assert_right()


def test_equal_keys_fully_overwritten_without_decay(rule: str, device: torch.device) -> None:
    """Products of what is below the diagonal would grow without bound: the inverse must not be a power series."""
    case = make_case(rule, device, ((0, 130),))
    k = torch.randn_like(case.k[:1]).expand_as(case.k)
    case = replace(case, k=k, log_decay=torch.zeros_like(case.log_decay), beta=torch.ones_like(case.beta))
    outs, _ = case.expected()
    assert error_ratio(case.run()[:130], outs[0]) < 10 * tolerance(case.v)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e6])
def test_keys_of_any_length(rule: str, scale: float, device: torch.device) -> None:
    """Keys are made unit ones, short of those so short that the reference's epsilon counts."""
    case = make_case(rule, device, ((0, 65),))
    replace(case, k=case.k * scale, q=case.q * scale).assert_right()


def decay_of(x: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """In double precision: [T, H, D / H]."""
    raw = torch.logaddexp(x.double() + dt_bias.double(), torch.zeros((), dtype=torch.float64, device=x.device))
    return -torch.unflatten(raw, 1, (len(a_log), -1)) * a_log.double().exp()[:, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 65])
def test_log_decays(tokens: int, dtype: torch.dtype, device: torch.device) -> None:
    x = (10 * torch.randn(tokens, 96 + 7, device=device)).to(dtype)[:, 7:]
    a_log, dt_bias = torch.randn(6, device=device), torch.randn(96, device=device)
    channels = kda_log_decay(x, a_log, dt_bias)
    assert channels.dtype == torch.float32
    assert error_ratio(channels, decay_of(x, a_log, dt_bias)) < 3e-6
    heads = gdn_log_decay(x[:, :6], a_log, dt_bias[:6])
    assert error_ratio(heads, decay_of(x[:, :6], a_log, dt_bias[:6])[..., 0]) < 3e-6


def test_log_decays_far_out(device: torch.device) -> None:
    x = torch.tensor([[-1e4, -30.0, -12.0, 0.0, 88.0, 1e4]], device=device)
    decay = gdn_log_decay(x, torch.zeros(6, device=device), torch.zeros(6, device=device))[0].tolist()
    wanted = [0.0, -math.exp(-30), -math.log1p(math.exp(-12)), -math.log(2), -88.0, -1e4]
    assert decay == pytest.approx(wanted, rel=1e-5)


def test_value_heads_share_key_heads_in_order(device: torch.device) -> None:
    case = make_case("per head", device, ((0, 65),), heads=(2, 6))
    shared: DeltaRuleCase = replace(case, q=case.q.repeat_interleave(3, dim=1), k=case.k.repeat_interleave(3, dim=1))
    assert error_ratio(case.run()[:65], shared.run()[:65]) < tolerance(case.v)
