"""Mooncake traces: times within their buckets, ids, repetition, and every kind of damage."""

import json
import re
import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.config.deployment import BurstSection
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.workloads.mooncake import MooncakeWorkload, read_mooncake
from prfaas.planner.simulate.workloads.pace import Pace

GOOD: dict[str, Any] = {"timestamp": 0, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}


def write(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def take(path: Path, number: int, *, rate_scale: float = 1.0, seed: int = 0, pace: Pace | None = None) -> list[Arrival]:
    workload = MooncakeWorkload(path, rate_scale=rate_scale, pace=pace or Pace(), rng=Random(seed))
    return list(islice(workload.arrivals(), number))


def at(timestamps: Sequence[float]) -> list[dict[str, Any]]:
    return [GOOD | {"timestamp": t, "output_length": 1 + i} for i, t in enumerate(timestamps)]


def test_a_bucket_is_spread_over_its_three_seconds_in_the_order_of_the_file(tmp_path: Path) -> None:
    stamps = [0] * 50 + [2999] * 50 + [6003] * 50
    got = take(write(tmp_path / "t.jsonl", at(stamps)), 150)
    assert [a.number for a in got] == list(range(150))
    assert [a.output_tokens for a in got] == list(range(1, 151))
    for i, bucket in enumerate(range(0, 150, 50)):
        times = [a.at_s for a in got[bucket : bucket + 50]]
        assert 3 * i <= times[0] < 3 * i + 0.5 < 3 * i + 2.5 < times[-1] < 3 * i + 3, times
        assert len(set(times)) == 50


def test_finer_times_are_kept(tmp_path: Path) -> None:
    got = take(write(tmp_path / "t.jsonl", at([100, 250, 4000])), 3)
    assert [a.at_s for a in got] == pytest.approx([0.1, 0.25, 4.0])


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=40), st.integers(0, 3))
def test_times_never_fall_and_all_requests_come(
    tmp_path_factory: pytest.TempPathFactory, stamps: list[int], seed: int
) -> None:
    path = write(tmp_path_factory.mktemp("traces") / "t.jsonl", at(sorted(stamps)))
    got = take(path, 2 * len(stamps), seed=seed)
    times = [a.at_s for a in got]
    assert times == sorted(times)
    assert sorted(a.output_tokens for a in got) == sorted([*range(1, len(stamps) + 1)] * 2)


def test_only_whole_blocks_have_names(tmp_path: Path) -> None:
    lengths = [(511, [4]), (512, [5]), (1100, [5, 6, 7])]
    records = [GOOD | {"input_length": tokens, "hash_ids": ids} for tokens, ids in lengths]
    assert [a.blocks for a in take(write(tmp_path / "t.jsonl", records), 3)] == [(), (5,), (5, 6)]


def test_a_trace_that_ends_begins_anew_later_and_with_other_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [GOOD, GOOD | {"timestamp": 9000, "hash_ids": [0, 1, 9]}])
    got = take(path, 6)
    assert [int(a.at_s // 3) for a in got] == [0, 3, 4, 7, 8, 11]
    assert [a.blocks for a in got] == [(0, 1), (0, 1), (10, 11), (10, 11), (20, 21), (20, 21)]
    assert [a.number for a in got] == list(range(6))


def test_rate_scale_and_bursts_bring_requests_sooner(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", at([100, 10_100, 20_100, 30_100]))
    assert [a.at_s for a in take(path, 4, rate_scale=10)] == pytest.approx([0.01, 1.01, 2.01, 3.01])
    pace = Pace([BurstSection(at_s=10, for_s=5, factor=2)])
    assert [a.at_s for a in take(path, 4, pace=pace)] == pytest.approx([0.1, 10.05, 15.1, 25.1])


def test_the_same_seed_gives_the_same_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", at([0] * 20))
    assert take(path, 40, seed=1) == take(path, 40, seed=1)
    assert take(path, 40, seed=1) != take(path, 40, seed=2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != "hash_ids"}, "missing required field `hash_ids`"),
        (GOOD | {"extra": 1}, "unknown field `extra`"),
        (GOOD | {"input_length": 0, "hash_ids": []}, r"`int` >= 1 - at `\$.input_length`"),
        (GOOD | {"output_length": -3}, r"`int` >= 1 - at `\$.output_length`"),
        (GOOD | {"input_length": "12"}, "Expected `int`, got `str`"),
        (GOOD | {"input_length": 1100.5}, "Expected `int`, got `float`"),
        (GOOD | {"timestamp": None}, r"got `null` - at `\$.timestamp`"),
        (GOOD | {"timestamp": float("nan")}, "invalid character"),
        (GOOD | {"timestamp": -1}, r">= 0.*\$.timestamp"),
        (GOOD | {"timestamp": 1}, "timestamp 1 after 3000; sort the lines"),
        (GOOD | {"hash_ids": [0, 1]}, "2 hash_ids for 1100 tokens; give one for every 512"),
        (GOOD | {"hash_ids": [0, 1, 2, 3]}, "4 hash_ids for 1100 tokens"),
        (GOOD | {"hash_ids": [0, 1, -2]}, r"\$.hash_ids"),
        ([1, 2], "Expected `object`"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path / "t.jsonl", [GOOD, GOOD | {"timestamp": 3000}, line])
    with pytest.raises(ConfigError, match=re.escape(f"{path}:3: ") + f".*{message}"):
        list(read_mooncake(path))


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe{}\n", b"\x80\x81"])
def test_a_file_that_is_no_trace_is_refused_at_its_first_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"t\.jsonl:1: .*give JSON lines"):
        list(read_mooncake(path))


def test_an_empty_line_ends_a_file_but_does_not_part_it(tmp_path: Path) -> None:
    path, line = tmp_path / "t.jsonl", json.dumps(GOOD)
    path.write_text(f"{line}\n{line}\n\n \n")
    assert len(list(read_mooncake(path))) == 2
    path.write_text(f"{line}\n\n{line}\n")
    with pytest.raises(ConfigError, match=r"t\.jsonl:2: an empty line between others; remove it"):
        list(read_mooncake(path))


def test_files_that_are_not_there_or_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        list(read_mooncake(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_mooncake(tmp_path))
    (tmp_path / "t.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="is empty; give a trace"):
        list(read_mooncake(tmp_path / "t.jsonl"))


def test_memory_does_not_grow_with_the_requests_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", at([3000 * (i // 5) for i in range(300)]))
    peaks = []
    for number in (100, 3_000, 12_000):
        tracemalloc.start()
        workload = MooncakeWorkload(path, rate_scale=1.0, pace=Pace(), rng=Random(0))
        assert sum(1 for _ in islice(workload.arrivals(), number)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1], peaks
