"""What is asked of the data plane, for a run whose figures are known."""

from typing import Any

from benchmarks.data_plane import asked
from benchmarks.data_plane.loopback import ratio, rows
from benchmarks.data_plane.rounds import Round, Sent
from benchmarks.data_plane.setup import Peer

GB = 10**9


def done(seconds: float, sender_cpu_s: float = 0.1, receiver_cpu_s: float = 0.2) -> Round:
    return Round(GB, Sent(seconds, sender_cpu_s), receiver_cpu_s)


def test_a_run_is_held_against_what_is_asked() -> None:
    result: dict[str, Any] = {
        "loopback_gbit_s": {"mtls": 9.0},
        "of_iperf3": {"raw": 0.9, "checked": 0.69},
        "cpu_s_per_gb": 0.5,
        "wan": {"link_gbit_s": 1.0, "achieved_gbit_s": 0.95},
        "resets": {"resent_fraction": 0.06},
    }
    met = {row["figure"]: row["met"] for row in asked.rows(result)}
    assert met == {
        "raw, of iperf3": "met",
        "checked and placed, of iperf3": "missed",
        "mTLS, Gbit/s": "missed",
        "CPU of both ends, s/GB": "met",
        "wide area, of the link": "met",
        "sent twice under resets, fraction": "missed",
    }


def test_what_was_not_measured_has_no_row() -> None:
    assert asked.rows({}) == []
    assert len(asked.rows({"resets": {"resent_fraction": 0.0}})) == 1


def test_ratios_are_of_rounds_that_were_measured_together() -> None:
    measured: dict[Peer, list[Round]] = {
        "iperf3": [done(1.0), done(2.0), done(4.0)],
        "checked": [done(2.0), done(2.0), done(5.0)],
    }
    assert ratio(measured, "checked", "iperf3") == 0.8
    assert ratio(measured, "raw", "iperf3") is None
    checked = rows("cubic", measured)[1]
    assert (checked["gbit_s"], checked["of_iperf3"], checked["of_plain"]) == (4.0, 0.8, None)
    assert round(checked["cpu_s_gb"], 9) == 0.3
