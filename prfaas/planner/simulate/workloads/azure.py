"""Requests of an Azure trace (CSV of times and lengths), of which no two are known to begin alike."""

from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.workloads.pace import Pace
from prfaas.planner.simulate.workloads.trace_file import numbered_lines, trace_fault

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


class AzureRecord(NamedTuple):
    """One line; `at_s` since the first one."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def read_azure(path: Path) -> Iterator[AzureRecord]:
    """One record at a time, in order of time. Raises ConfigError that names file, line and what to change."""
    first = before = None
    for number, line in numbered_lines(path):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise trace_fault(path, number, f"not UTF-8 text; give CSV lines of {HEADER}") from None
        if number == 1:
            if text != HEADER:
                raise trace_fault(path, 1, f"{text[:80]!r} is not the header of this format; it must be {HEADER}")
            continue
        time, prompt_tokens, output_tokens = _fields(path, number, text)
        first = first or time
        try:
            if time < (before or first):
                raise trace_fault(path, number, f"TIMESTAMP {time} after {before}; sort the lines by TIMESTAMP")
            at_s = (time - first).total_seconds()
        except TypeError:
            raise trace_fault(path, number, "a time zone that other lines lack; give one to all or to none") from None
        before = time
        yield AzureRecord(at_s, prompt_tokens, output_tokens)
    if first is None:
        raise ConfigError(f"{path} holds no request, only a header; give a trace with at least one")


def _fields(path: Path, number: int, text: str) -> tuple[datetime, int, int]:
    fields = text.split(",")
    if len(fields) != 3:
        raise trace_fault(path, number, f"{len(fields)} fields; give three: {HEADER}")
    try:
        time = datetime.fromisoformat(fields[0])
    except ValueError:
        raise trace_fault(
            path, number, f"TIMESTAMP {fields[0]!r} is no time; write it as 2023-11-16 18:15:46.68"
        ) from None
    return time, _tokens(path, number, "ContextTokens", fields[1]), _tokens(path, number, "GeneratedTokens", fields[2])


def _tokens(path: Path, number: int, name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise trace_fault(path, number, f"{name} {text!r} must be a whole number of at least 1")
    return int(text)


class AzureWorkload:
    """A trace from its first request on. One that has ended begins anew, a mean gap after its last request."""

    def __init__(self, path: Path, *, rate_scale: float, pace: Pace) -> None:
        self._path = path
        self._rate_scale = rate_scale
        self._pace = pace

    def arrivals(self) -> Iterator[Arrival]:
        numbers = count()
        begin_s = 0.0
        while True:
            last_s, num_records = 0.0, 0
            for record in read_azure(self._path):
                last_s, num_records = record.at_s, num_records + 1
                at_s = self._pace.at_s((begin_s + last_s) / self._rate_scale)
                yield Arrival(next(numbers), at_s, record.prompt_tokens, record.output_tokens)
            begin_s += last_s + (last_s / (num_records - 1) if last_s else 1.0)

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:  # noqa: ARG002 - sessions answer to it
        return None
