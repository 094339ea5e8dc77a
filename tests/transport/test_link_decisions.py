"""Windows and congestion control: what is chosen for which path."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.transport.congestion import check_congestion_control, choose, in_use, may_set
from prfaas.transport.window import LEAST_BYTES, window_bytes

MIB = 1 << 20


def window(rate: float | None, rtt: float | None, streams: int = 4, credit: int = 64 * MIB) -> int:
    return window_bytes(rate, rtt, frame_bytes=MIB, streams=streams, credit_bytes=credit)


def test_a_window_is_twice_the_path_and_a_frame() -> None:
    assert window(125e6, 0.1) == 2 * (12_500_000 + MIB)


def test_a_window_lets_every_stream_work_and_keeps_to_the_credit() -> None:
    assert window(125e6, 0.0001) == LEAST_BYTES + 4 * MIB
    assert window(125e6, 0.0001, streams=16) == LEAST_BYTES + 16 * MIB
    assert window(1e9, 1.0) == 64 * MIB
    assert window(125e6, 0.1, credit=2 * MIB) == 2 * MIB


def test_before_anything_is_known_the_receiver_decides() -> None:
    assert window(None, 0.02) == window(1e6, None) == 64 * MIB


@given(st.floats(1e5, 1e8), st.floats(0.005, 0.5))
def test_a_window_that_was_too_small_grows_out_of_it(capacity: float, rtt: float) -> None:
    """A sender held back by its window shows window / rtt; the next window is larger until the link is full."""
    size = window(1.0, rtt)
    for _ in range(20):
        size = window(min(capacity, size / rtt), rtt)
    assert size >= min(64 * MIB, capacity * rtt)


@pytest.mark.parametrize(
    ("rtt_s", "present", "chosen"),
    [
        (0.00005, "bbr", "cubic"),
        (0.02, "cubic", "bbr"),
        (0.0012, "cubic", "cubic"),
        (0.0012, "bbr", "bbr"),
        (0.0008, "bbr", "bbr"),
        (0.0008, "cubic", "cubic"),
        (0.0008, "reno", "cubic"),
        (None, "reno", None),
    ],
)
def test_the_automatic_choice(rtt_s: float | None, present: str, chosen: str | None) -> None:
    assert choose("auto", rtt_s, present) == chosen


def test_a_named_algorithm_is_not_judged() -> None:
    assert choose("reno", 0.02, "bbr") == "reno"


def test_an_algorithm_that_the_kernel_lacks_is_an_error_that_says_which_it_has() -> None:
    check_congestion_control("auto")
    # Every kernel has reno, and lets everybody use it.
    check_congestion_control("reno")
    with pytest.raises(ConfigError, match=r"transport.congestion_control is 'warp'.*it has .*reno"):
        check_congestion_control("warp")


def test_what_a_connection_uses() -> None:
    assert may_set("reno")
    assert not may_set("warp")
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        assert in_use(sock) == "reno"
