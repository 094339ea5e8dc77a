"""What instances measure of themselves becomes their cluster's profile, unless it cannot be believed."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.blend import ENOUGH_PROMPTS, FEW_PROMPTS, CacheBytes, Report, blended
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.gateway.reported_rates import prefill_s, rates_fault
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import Role

WEST = ClusterName("west")
CACHE = CacheBytes(1000.0, 2e6, 1e9)
FILE = Profile("file", PrefillCurve(0.1, 1e-5), DecodeCurve(((1, 0.01), (64, 0.02)), 1e-8, 128), 500.0, 1e6, 2e9)


def rates(samples: int = ENOUGH_PROMPTS, scale: float = 1.0, **changes: Any) -> pb.Rates:
    fields: dict[str, Any] = {
        "prefill_overhead_s": 0.05 * scale,
        "prefill_per_token_s": 2e-5 * scale,
        "prefill_per_token2_s": 1e-10 * scale,
        "prefill_samples": samples,
    }
    return pb.Rates(**(fields | changes))


def report(name: str, told: pb.Rates, role: Role = "prefill") -> Report:
    return Report(InstanceId(name), role, told)


def decode(*points: tuple[int, float]) -> list[pb.DecodePoint]:
    return [pb.DecodePoint(requests=n, seconds=s) for n, s in points]


def test_a_file_holds_until_enough_prompts_were_measured() -> None:
    few = blended([report("p", rates(ENOUGH_PROMPTS - 1))], FILE, CACHE, 64)
    assert (few.profile, few.measured) == (FILE, False)
    enough = blended([report("p", rates())], FILE, CACHE, 64)
    assert enough.measured
    assert enough.profile == replace(FILE, prefill=PrefillCurve(0.05, 2e-5, 1e-10))


def test_without_a_file_few_prompts_are_better_than_none() -> None:
    assert blended([report("p", rates(FEW_PROMPTS - 1))], None, CACHE, 64).profile is None
    assert blended([report("p", rates())], None, None, 64).profile is None
    found = blended([report("p", rates(FEW_PROMPTS))], None, CACHE, 64).profile
    assert found
    assert found.decode == DecodeCurve(((1, found.prefill.seconds(1)),), max_batch=64)
    assert (found.kv_bytes_per_token, found.state_bytes, found.cache_bytes) == (1000.0, 2e6, 1e9)


def test_prompts_of_a_whole_cluster_count_together() -> None:
    reports = [report(f"p{i}", rates(2)) for i in range(3)]
    assert blended(reports, None, CACHE, 64).measured
    assert not blended(reports[:2], None, CACHE, 64).measured


def test_those_that_prefill_know_best() -> None:
    beside = report("d", rates(1000, 3.0), "decode")
    found = blended([report("p", rates()), beside], None, CACHE, 64).profile
    assert found
    assert found.prefill.seconds(5000) == pytest.approx(prefill_s(rates(), 5000))
    alone = blended([beside], None, CACHE, 64).profile
    assert alone
    assert alone.prefill.seconds(5000) == pytest.approx(3 * prefill_s(rates(), 5000))


def test_an_instance_that_says_it_is_a_thousand_times_as_fast_changes_nothing() -> None:
    honest = [report(f"p{i}", rates(scale=1 + i / 100)) for i in range(3)]
    before = blended(honest, None, CACHE, 64)
    after = blended([*honest, report("liar", rates(2**31, 1e-3))], None, CACHE, 64)
    assert after.outliers == ("liar",)
    assert after.profile == before.profile


def test_of_two_that_differ_the_slower_is_believed() -> None:
    found = blended([report("a", rates()), report("liar", rates(scale=1e-3))], None, CACHE, 64)
    assert found.profile
    assert found.profile.prefill.seconds(8192) == pytest.approx(prefill_s(rates(), 8192), rel=1e-6)


def test_what_is_far_from_the_file_is_not_believed_even_of_one() -> None:
    found = blended([report("liar", rates(scale=1e-4))], FILE, CACHE, 64)
    assert (found.profile, found.outliers, found.measured) == (FILE, ("liar",), False)


@given(scales=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=8))
def test_the_blend_lies_among_what_it_is_made_of(scales: list[float]) -> None:
    found = blended([report(f"p{i}", rates(scale=s)) for i, s in enumerate(scales)], None, CACHE, 64).profile
    assert found
    for tokens in (64, 5000, 100_000):
        assert min(scales) * 0.999 <= found.prefill.seconds(tokens) / prefill_s(rates(), tokens) <= max(scales) * 1.001


def test_decode_is_measured_where_it_was_and_the_file_in_proportion_elsewhere() -> None:
    told = pb.Rates(decode=decode((4, 0.04), (16, 0.05)), decode_per_context_token_s=2e-8)
    found = blended([report("d", told, "decode")], FILE, CACHE, 64)
    assert not found.measured
    assert found.profile
    curve = found.profile.decode
    assert (curve.step_s(4), curve.step_s(16), curve.per_context_token_s) == (0.04, 0.05, 2e-8)
    assert curve.step_s(64) / 0.05 == pytest.approx(FILE.decode.step_s(64) / FILE.decode.step_s(16))
    assert curve.step_s(1) == pytest.approx(0.04 * FILE.decode.step_s(1) / FILE.decode.step_s(4))
    assert curve.max_batch == FILE.decode.max_batch


def test_a_thousand_instances_make_few_points() -> None:
    reports = [
        report(f"d{i}", pb.Rates(decode=decode((1 + i % 50, 0.01), (51 + i % 60, 0.02))), "decode") for i in range(1000)
    ]
    found = blended(reports, FILE, CACHE, 64).profile
    assert found
    assert len(found.decode.points) <= 8


def test_a_profile_is_the_same_object_until_it_moves() -> None:
    profiles = LiveProfiles({WEST: FILE}, CACHE, 64)
    assert profiles.of(WEST) is FILE
    assert profiles.look({WEST: [report("p", rates())]}).moved == {WEST}
    measured = profiles.of(WEST)
    assert profiles.measured(WEST)
    assert profiles.look({WEST: [report("p", rates(scale=1.04))]}).moved == set()
    assert profiles.of(WEST) is measured
    assert profiles.look({WEST: [report("p", rates(scale=1.06))]}).moved == {WEST}
    assert profiles.look({}).moved == set(), "silence changes nothing"
    assert profiles.of(WEST) is not measured


def test_measurements_that_say_what_the_file_does_are_measurements() -> None:
    profiles = LiveProfiles({WEST: FILE}, CACHE, 64)
    like_the_file = rates(prefill_overhead_s=0.1, prefill_per_token_s=1e-5, prefill_per_token2_s=0.0)
    assert profiles.look({WEST: [report("p", like_the_file)]}).moved == set()
    assert (profiles.of(WEST), profiles.measured(WEST)) == (FILE, True)


def test_answers_are_as_long_as_in_the_middle_instance() -> None:
    profiles = LiveProfiles({}, CACHE, 64)
    assert profiles.output_tokens == 0
    profiles.look({WEST: [report(f"d{i}", pb.Rates(output_tokens=n)) for i, n in enumerate((0, 90, 100, 1e6))]})
    assert profiles.output_tokens == 100


def test_what_can_be_said() -> None:
    assert rates_fault(pb.Rates()) is None
    assert rates_fault(rates(decode=decode((1, 0.01), (8, 0.01)))) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefill_per_token_s": nan}, "impossible"),
        ({"prefill_overhead_s": -1.0}, "impossible"),
        ({"output_tokens": inf}, "impossible"),
        ({"output_tokens": 1e9}, "1e+09 tokens"),
        ({"prefill_per_token_s": 0.0, "prefill_per_token2_s": 0.0, "prefill_overhead_s": 1e-6}, "takes it 1e-06 s"),
        ({"prefill_per_token2_s": 1.0}, "takes it"),
        ({"decode": decode((0, 0.1))}, "decode points are impossible"),
        ({"decode": decode((1, 0.0))}, "decode points are impossible"),
        ({"decode": decode((1, nan))}, "impossible"),
        ({"decode": decode((2, 0.1), (2, 0.2))}, "do not rise"),
        ({"decode": decode((2, 0.2), (3, 0.1))}, "do not rise"),
        ({"decode": decode(*((n + 1, 0.1) for n in range(65)))}, "65 decode points"),
        ({"decode_per_context_token_s": 1.0}, "a token of context"),
    ],
)
def test_what_cannot_be_said(changes: dict[str, Any], words: str) -> None:
    fault = rates_fault(rates(**changes))
    assert fault
    assert words in fault


numbers = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e-2), st.just(0.0))


@given(
    prefill=st.tuples(numbers, numbers, numbers),
    points=st.lists(st.tuples(st.integers(0, 2**32 - 1), numbers), max_size=5),
    context_s=numbers,
    samples=st.integers(0, 2**32 - 1),
)
def test_whatever_passes_makes_a_profile(
    prefill: tuple[float, float, float], points: list[tuple[int, float]], context_s: float, samples: int
) -> None:
    told = pb.Rates(
        prefill_overhead_s=prefill[0],
        prefill_per_token_s=prefill[1],
        prefill_per_token2_s=prefill[2],
        prefill_samples=samples,
        decode=decode(*points),
        decode_per_context_token_s=context_s,
    )
    if rates_fault(told):
        return
    for given_ in (None, FILE):
        found = blended([report("p", told), report("d", told, "decode")], given_, CACHE, 64).profile
        if found:
            assert 0 < found.prefill.seconds(1000) < inf
            assert 0 < found.decode.step_s(300, 1e6) < inf
