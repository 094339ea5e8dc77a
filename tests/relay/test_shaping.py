"""Properties of the pure half: the rate, the delay, the order, and every byte."""

from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.relay.shaping import MAX_CHUNK_BYTES, MIN_BUDGET_BYTES, DelayLine, LinkProfile, OneWay, RateLimiter

SLACK_S = 1e-9

profiles = st.builds(
    LinkProfile,
    gbit_s=st.floats(0.001, 100),
    rtt_ms=st.floats(0, 500),
    jitter_ms=st.floats(0, 50),
)
# (seconds since the last chunk, size)
arrivals = st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, MAX_CHUNK_BYTES)), min_size=1, max_size=50)


def times(chunks: list[tuple[float, int]]) -> list[float]:
    return list(accumulate(gap for gap, _ in chunks))


@given(st.floats(1e3, 1e10), arrivals)
def test_the_rate_holds_over_every_window(bytes_s: float, chunks: list[tuple[float, int]]) -> None:
    limiter = RateLimiter(bytes_s)
    departures = [limiter.depart_s(now, size) for now, (_, size) in zip(times(chunks), chunks, strict=True)]
    for first in range(len(chunks)):
        sent = 0
        for last in range(first + 1, len(chunks)):
            sent += chunks[last][1]
            assert departures[last] - departures[first] >= sent / bytes_s - SLACK_S


@given(st.floats(1e3, 1e10), arrivals)
def test_an_idle_link_saves_nothing_up_and_a_busy_one_wastes_nothing(
    bytes_s: float, chunks: list[tuple[float, int]]
) -> None:
    limiter = RateLimiter(bytes_s)
    free_at = 0.0
    for now, (_, size) in zip(times(chunks), chunks, strict=True):
        departure = limiter.depart_s(now, size)
        assert departure == pytest.approx(max(now, free_at) + size / bytes_s)
        free_at = departure


@given(profiles, arrivals, st.integers(0, 3))
def test_chunks_keep_order_and_delay_and_none_is_lost(
    profile: LinkProfile, chunks: list[tuple[float, int]], seed: int
) -> None:
    line = DelayLine(OneWay(profile, Random(seed)))
    pushed = [bytes([index]) * size for index, (_, size) in enumerate(chunks)]
    earliest: list[float] = []
    for now, chunk in zip(times(chunks), pushed, strict=True):
        line.push(chunk, now)
        earliest.append(now + len(chunk) / profile.bytes_s + profile.rtt_ms / 2e3)
    popped: list[bytes] = []
    while (when := line.next_arrival_s()) is not None:
        assert when >= earliest[len(popped)] - SLACK_S
        assert line.pop(when - 1e-6) is None
        while (chunk_or_none := line.pop(when)) is not None:
            popped.append(chunk_or_none)
        assert line.queued_bytes == sum(map(len, pushed)) - sum(map(len, popped))
    assert popped == pushed
    assert line.queued_bytes == 0


@given(profiles, arrivals)
def test_connections_share_one_rate(profile: LinkProfile, chunks: list[tuple[float, int]]) -> None:
    path = OneWay(profile, Random(0))
    lines = [DelayLine(path), DelayLine(path)]
    last = 0.0
    for index, (now, (_, size)) in enumerate(zip(times(chunks), chunks, strict=True)):
        lines[index % 2].push(bytes(size), now)
    for line in lines:
        while (when := line.next_arrival_s()) is not None:
            line.pop(when)
            last = max(last, when)
    total = sum(size for _, size in chunks)
    assert last >= chunks[0][0] + total / profile.bytes_s + profile.rtt_ms / 2e3 - SLACK_S


@given(profiles, profiles, arrivals)
def test_order_survives_a_change_of_profile(
    before: LinkProfile, after: LinkProfile, chunks: list[tuple[float, int]]
) -> None:
    path = OneWay(before, Random(0))
    line = DelayLine(path)
    scheduled: list[float] = []
    for index, (now, (_, size)) in enumerate(zip(times(chunks), chunks, strict=True)):
        if index == len(chunks) // 2:
            path.apply(after)
        line.push(bytes(size), now)
    while (when := line.next_arrival_s()) is not None:
        scheduled.append(when)
        line.pop(when)
    assert scheduled == sorted(scheduled)
    assert len(scheduled) == len(chunks)


def test_the_end_of_stream_travels_behind_the_data() -> None:
    line = DelayLine(OneWay(LinkProfile(gbit_s=0.008, rtt_ms=20), Random(0)))  # 1 MB/s
    line.push(bytes(1000), 0.0)
    line.push(b"", 0.0)
    assert line.pop(0.0109) is None
    assert line.pop(0.0111) == bytes(1000)
    assert line.pop(0.0111) == b""


def test_clear_drops_everything() -> None:
    line = DelayLine(OneWay(LinkProfile(gbit_s=1, rtt_ms=1), Random(0)))
    line.push(bytes(10), 0.0)
    line.clear()
    assert (line.queued_bytes, line.next_arrival_s(), line.pop(1e9)) == (0, None, None)


@given(profiles)
def test_a_budget_can_fill_the_link(profile: LinkProfile) -> None:
    assert profile.budget_bytes >= MIN_BUDGET_BYTES
    assert profile.budget_bytes >= profile.bytes_s * profile.rtt_ms / 1e3 - 1
    assert 0 < profile.chunk_bytes <= MAX_CHUNK_BYTES <= profile.budget_bytes // 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gbit_s", 0.0),
        ("gbit_s", -1.0),
        ("gbit_s", float("nan")),
        ("gbit_s", float("inf")),
        ("rtt_ms", -0.1),
        ("rtt_ms", float("nan")),
        ("rtt_ms", float("inf")),
        ("jitter_ms", -1.0),
        ("jitter_ms", float("nan")),
        ("reset_every_s", -1.0),
        ("reset_every_s", float("inf")),
        ("flip_bits_per_gb", -1.0),
        ("flip_bits_per_gb", float("inf")),
    ],
)
def test_bad_profiles_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field} is .*; it must be"):
        LinkProfile(**({"gbit_s": 1.0, "rtt_ms": 1.0} | {field: value}))  # type: ignore[arg-type]


def test_every_fault_is_in_one_report() -> None:
    with pytest.raises(ConfigError, match=r"gbit_s is 0.*rtt_ms is -1"):
        LinkProfile(gbit_s=0, rtt_ms=-1)
