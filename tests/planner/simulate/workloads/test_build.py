"""From a section of a deployment file to its requests; what independent ones look like."""

from collections import Counter
from itertools import islice, pairwise
from math import exp, log
from pathlib import Path
from statistics import fmean, median

import pytest

from prfaas.config.deployment import (
    AgenticSection,
    BurstSection,
    FixedSection,
    LognormalSection,
    TraceSection,
    WorkloadSection,
)
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.workloads.build import build_workload

PAPER = WorkloadSection(input=LognormalSection(mu=9.9, sigma=1.0, min_tokens=128, max_tokens=131_072))
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]}\n'
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n"


def take(section: WorkloadSection, number: int, *, rate_req_s: float = 2.0, seed: int = 0) -> list[Arrival]:
    return list(islice(build_workload(section, rate_req_s=rate_req_s, seed=seed).arrivals(), number))


def test_lognormal_lengths_are_those_of_the_case_study() -> None:
    tokens = [a.prompt_tokens for a in take(PAPER, 20_000)]
    assert 128 <= min(tokens) < max(tokens) <= 131_072
    assert fmean(tokens) == pytest.approx(27_000, rel=0.03)
    assert log(median(tokens)) == pytest.approx(9.87, abs=0.03)
    assert sum(t > 19_880 for t in tokens) / 20_000 == pytest.approx(0.4957, abs=0.02)


def test_independent_requests_come_at_random_at_their_rate() -> None:
    got = take(PAPER, 20_000)
    gaps = [b.at_s - a.at_s for a, b in pairwise(got)]
    assert fmean(gaps) == pytest.approx(0.5, rel=0.03)
    assert sum(gap > 0.5 for gap in gaps) / len(gaps) == pytest.approx(exp(-1), abs=0.02)
    assert all(a.blocks == () and a.output_tokens == 1024 for a in got)
    assert [a.number for a in got] == list(range(20_000))


def test_a_burst_brings_so_many_times_as_many() -> None:
    section = PAPER.model_copy(update={"bursts": (BurstSection(at_s=100, for_s=200, factor=3),)})
    seconds = Counter(int(a.at_s // 100) for a in take(section, 4000, rate_req_s=5))
    assert seconds[0] == pytest.approx(500, rel=0.15)
    assert seconds[1] == pytest.approx(1500, rel=0.1)
    assert seconds[2] == pytest.approx(1500, rel=0.1)
    assert seconds[3] == pytest.approx(500, rel=0.15)


def test_another_rate_brings_the_same_prompts_at_other_times() -> None:
    slow, quick = take(PAPER, 100, rate_req_s=1), take(PAPER, 100, rate_req_s=4)
    assert [a.prompt_tokens for a in slow] == [a.prompt_tokens for a in quick]
    assert [a.at_s / 4 for a in slow] == pytest.approx([a.at_s for a in quick])


def test_the_same_seed_gives_the_same_requests() -> None:
    assert take(PAPER, 100, seed=3) == take(PAPER, 100, seed=3)
    assert take(PAPER, 100, seed=3) != take(PAPER, 100, seed=4)


def test_fixed_prompts_are_all_alike() -> None:
    section = WorkloadSection(input=FixedSection(distribution="fixed", tokens=777), output_tokens=3)
    assert {(a.prompt_tokens, a.output_tokens) for a in take(section, 10)} == {(777, 3)}


@pytest.mark.parametrize(
    ("text", "tokens", "blocks"), [(MOONCAKE, 600, (7,)), (AZURE, 374, ()), ("\ufeff" + AZURE, 374, ())]
)
def test_the_format_of_a_trace_is_told_by_its_first_line(
    tmp_path: Path, text: str, tokens: int, blocks: tuple[int, ...]
) -> None:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    (got,) = take(WorkloadSection(input=TraceSection(distribution="trace", path=path)), 1)
    assert (got.prompt_tokens, got.blocks) == (tokens, blocks)


def test_a_file_that_is_no_known_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("<html>\n")
    with pytest.raises(ConfigError, match=r"trace:1: no trace that is known here; give Mooncake's"):
        take(WorkloadSection(input=TraceSection(distribution="trace", path=path)), 1)


def test_sessions_have_no_bursts() -> None:
    section = WorkloadSection(
        input=AgenticSection(distribution="agentic", sessions=2), bursts=(BurstSection(at_s=0, for_s=1, factor=2),)
    )
    with pytest.raises(ConfigError, match=r"workload\.bursts: sessions send when"):
        build_workload(section, rate_req_s=1, seed=0)
    assert len(take(section.model_copy(update={"bursts": ()}), 99)) == 2
