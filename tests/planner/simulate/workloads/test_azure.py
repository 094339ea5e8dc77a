"""Azure traces: times, repetition, and every kind of damage."""

import re
from itertools import islice
from pathlib import Path

import pytest

from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.workloads.azure import HEADER, AzureWorkload, read_azure
from prfaas.planner.simulate.workloads.pace import Pace

FIRST = "2023-11-16 18:15:46.6805900,374,44"


def write(path: Path, *lines: str, header: str = HEADER, end: str = "\r\n") -> Path:
    path.write_bytes(end.join((header, *lines)).encode())
    return path


def test_times_count_from_the_first_request(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", FIRST, "2023-11-16 18:15:50.9951690,396,109", "2023-11-17 18:15:50.9951690,1,1")
    got = list(islice(AzureWorkload(path, rate_scale=2.0, pace=Pace()).arrivals(), 3))
    assert [a.at_s for a in got] == pytest.approx([0, 4.314579 / 2, (86400 + 4.314579) / 2])
    assert [(a.prompt_tokens, a.output_tokens, a.blocks) for a in got] == [(374, 44, ()), (396, 109, ()), (1, 1, ())]


def test_times_may_bear_a_zone_and_lines_end_in_a_line_feed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv", "2024-05-10 00:00:00.009930+00:00,5,6", "2024-05-10 00:00:01.009930+00:00,5,6", end="\n"
    )
    assert [record.at_s for record in read_azure(path)] == [0.0, 1.0]


def test_a_trace_that_ends_begins_anew_a_mean_gap_later(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "2024-05-10 00:00:00,1,1", "2024-05-10 00:00:01,2,1", "2024-05-10 00:00:06,3,1")
    got = list(islice(AzureWorkload(path, rate_scale=1.0, pace=Pace()).arrivals(), 7))
    assert [a.at_s for a in got] == [0, 1, 6, 9, 10, 15, 18]
    assert [a.prompt_tokens for a in got] == [1, 2, 3, 1, 2, 3, 1]
    assert [a.number for a in got] == list(range(7))


def test_a_trace_of_one_request_can_be_repeated(tmp_path: Path) -> None:
    got = islice(AzureWorkload(write(tmp_path / "t.csv", FIRST), rate_scale=1.0, pace=Pace()).arrivals(), 3)
    assert [a.at_s for a in got] == [0, 1, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2023-11-16 18:15:47,1", "2 fields; give three"),
        ("2023-11-16 18:15:47,1,2,3", "4 fields; give three"),
        ("yesterday,1,2", "TIMESTAMP 'yesterday' is no time"),
        ("2023-11-16 18:15:47,-1,2", "ContextTokens '-1' must be a whole number of at least 1"),
        ("2023-11-16 18:15:47,0,2", "ContextTokens '0'"),
        ("2023-11-16 18:15:47,1,nan", "GeneratedTokens 'nan'"),
        ("2023-11-16 18:15:47,1,1.5", "GeneratedTokens '1.5'"),
        ("2023-11-16 18:15:47,,1", "ContextTokens ''"),
        (
            "2023-11-16 18:15:46,1,1",
            "TIMESTAMP 2023-11-16 18:15:46 after 2023-11-16 18:15:46.680590; sort the lines by TIMESTAMP",
        ),
        ("2023-11-16 18:15:47+00:00,1,1", "a time zone that other lines lack"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "t.csv", FIRST, line)
    with pytest.raises(ConfigError, match=re.escape(f"{path}:3: {message}")):
        list(read_azure(path))


def test_files_that_are_no_such_trace_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv:1: 'time,in,out' is not the header"):
        list(read_azure(write(tmp_path / "t.csv", FIRST, header="time,in,out")))
    with pytest.raises(ConfigError, match="holds no request, only a header"):
        list(read_azure(write(tmp_path / "t.csv")))
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"t\.csv:1: not UTF-8 text"):
        list(read_azure(tmp_path / "t.csv"))
