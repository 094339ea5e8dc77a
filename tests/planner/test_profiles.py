"""The profiles that come with the project: the paper's figures, and files that are what the catalogue writes."""

from pathlib import Path

import pytest

from prfaas.config.profile_file import ProfileFile
from prfaas.planner.catalogue import catalogue
from prfaas.planner.profiles import profile_of, read_profile
from prfaas.policy.profile import Profile

FOLDER = Path(__file__).parents[2] / "configs/profiles"
TABLE_5 = {1024: (190.8, 0.44), 8192: (308.9, 0.72), 32_768: (701.3, 1.84), 131_072: (2316.3, 7.40)}
"""Of the PrfaaS paper: S_kv in MiB and T_prefill in seconds, by tokens."""
TABLE_6_PREFILL = {10_224: 1.83, 27_486: 4.27, 62_410: 9.73}
"""Seconds on 8xH20 that its rates and times imply."""
OUTPUT_TOKENS = 1024


def paper(gpu: str) -> Profile:
    return read_profile(FOLDER / f"paper-1t-{gpu}.yaml")


def test_the_files_are_what_the_catalogue_writes() -> None:
    """`prfaas profile --catalogue configs/profiles` writes them anew."""
    written = {file.name: file.read_text() for file in FOLDER.glob("*.yaml")}
    expected = catalogue()
    assert written.keys() == expected.keys()
    assert [name for name, text in expected.items() if written[name] != text] == []


def test_every_file_reads_as_a_profile() -> None:
    for file in FOLDER.glob("*.yaml"):
        profile = read_profile(file)
        assert profile.prefill.seconds(1024) < profile.prefill.seconds(131_072)
        assert profile.decode.step_s(1) <= profile.decode.step_s(64)
        assert profile.cache_bytes > profile.kv_bytes(131_072)


@pytest.mark.parametrize("tokens", sorted(TABLE_5))
def test_the_papers_model_on_h200_is_table_5(tokens: int) -> None:
    profile = paper("h200")
    mib, seconds = TABLE_5[tokens]
    assert profile.kv_bytes(tokens) / 2**20 == pytest.approx(mib, rel=0.02)
    assert profile.prefill.seconds(tokens) == pytest.approx(seconds, rel=1e-9)


def test_the_papers_model_on_h20_meets_table_6() -> None:
    profile = paper("h20")
    for tokens, seconds in TABLE_6_PREFILL.items():
        assert profile.prefill.seconds(tokens) == pytest.approx(seconds, rel=1e-3)
    for instances, requests_s in ((5, 3.91), (3, 2.35), (8, 6.25)):
        rate = instances * profile.decode.max_batch / (profile.decode.step_s(20) * OUTPUT_TOKENS)
        assert rate == pytest.approx(requests_s, rel=0.005)


def test_beyond_table_5_a_fit_to_it_goes_on() -> None:
    curve = paper("h200").prefill
    assert curve.covers(131_072)
    assert not curve.covers(131_073)
    assert 2 * curve.seconds(131_072) < curve.seconds(262_144) < 4 * curve.seconds(131_072)


def test_an_h200_costs_twice_an_h20_so_that_the_papers_clusters_cost_the_same() -> None:
    assert paper("h200").usd_per_hour == 2 * paper("h20").usd_per_hour


def test_elsewhere_the_papers_model_scales_with_the_peaks() -> None:
    h200, h100, b200, l40s = (paper(gpu) for gpu in ("h200", "h100", "b200", "l40s"))
    assert h100.prefill.seconds(32_768) == pytest.approx(h200.prefill.seconds(32_768), rel=1e-4)
    overhead = 0.3958
    assert (b200.prefill.seconds(131_072) - overhead) / (7.4 - overhead) == pytest.approx(989 / 2250, rel=1e-3)
    assert l40s.gpus == 16
    assert b200.decode.step_s(1) < h200.decode.step_s(1) < h100.decode.step_s(1) < l40s.decode.step_s(1)


def test_a_profile_has_the_units_that_policies_count_in() -> None:
    file = ProfileFile.model_validate(
        {
            "source": "made up",
            "model": {"name": "m", "kv_bytes_per_token": 10, "state_bytes": 7},
            "hardware": {"name": "2xGPU", "gpus": 2, "usd_per_gpu_hour": 1.5, "cache_gib": 0.5},
            "prefill": {"overhead_s": 1, "per_token_s": 0.5, "per_token2_s": 0.25},
            "decode": {
                "points": [{"requests": 1, "seconds": 0.1}, {"requests": 3, "seconds": 0.2}],
                "per_context_token_s": 0.001,
                "max_batch": 9,
            },
        }
    )
    profile = profile_of(file)
    assert profile.name == "m on 2xGPU"
    assert profile.kv_bytes(3) == 37
    assert (profile.cache_bytes, profile.usd_per_hour, profile.gpus) == (2**29, 3.0, 2)
    assert profile.prefill.seconds(2) == 3.0
    assert profile.decode.step_s(2, context_tokens=50) == pytest.approx(0.2)
    assert profile.decode.max_batch == 9
