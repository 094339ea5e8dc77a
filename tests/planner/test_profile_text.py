"""What is written reads back as the same profile."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prfaas.config.profile_file import ProfileFile, load_profile
from prfaas.planner.profile_text import profile_text

POSITIVE = st.floats(1e-15, 1e18)
NAME = st.text(st.characters(min_codepoint=32, max_codepoint=0x1F64F, exclude_categories=["Cs"]), min_size=1)
WORDS = st.lists(st.text("abc:#'\"{}-%1", min_size=1), min_size=1).map(" ".join)


@st.composite
def files(draw: st.DrawFn) -> ProfileFile:
    points = sorted(draw(st.sets(st.integers(1, 10**6), min_size=2, max_size=4)))
    seconds = sorted(draw(st.lists(POSITIVE, min_size=len(points), max_size=len(points))))
    return ProfileFile.model_validate(
        {
            "source": draw(WORDS),
            "model": {"name": draw(NAME), "kv_bytes_per_token": draw(POSITIVE), "state_bytes": draw(POSITIVE)},
            "hardware": {
                "name": draw(NAME),
                "gpus": 3,
                "usd_per_gpu_hour": draw(POSITIVE),
                "cache_gib": draw(POSITIVE),
            },
            "prefill": {
                "overhead_s": draw(POSITIVE),
                "per_token_s": draw(POSITIVE),
                "per_token2_s": draw(POSITIVE),
                "points": [{"tokens": t, "seconds": s} for t, s in zip(points, seconds, strict=True)],
            },
            "decode": {"points": [{"requests": 1, "seconds": draw(POSITIVE)}], "per_context_token_s": draw(POSITIVE)},
        }
    )


@given(files())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_reads_back(tmp_path: Path, file: ProfileFile) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(profile_text(file), encoding="utf-8")
    assert load_profile(path) == file
