"""Ours and iperf3, each alone, over a long and lossy link; see `tun_link`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.data_plane.loopback import gbit_s
from benchmarks.data_plane.pair import Pair
from benchmarks.data_plane.rounds import Round
from benchmarks.data_plane.setup import Peer, Setup
from benchmarks.data_plane.tun_link import TunProfile
from benchmarks.report import Column, median_of, progress

PROFILE = TunProfile(gbit_s=1.0, rtt_ms=20.0, loss=0.001)
COLUMNS = (
    Column("peer", "peer"),
    Column("congestion\ncontrol", "congestion_control"),
    Column("streams", "streams"),
    Column("Gbit/s", "gbit_s", ".3f"),
    Column("of the\nlink", "of_link", ".0%"),
    Column("CPU s/GB\nboth ends", "cpu_s_gb", ".3f"),
)


def measure(base: Setup, peers: Sequence[Peer], prompts: int, rounds: int, secrets: str) -> dict[Peer, list[Round]]:
    """One pair after the other, since each has a link of its own; the first round opens connections."""
    measured: dict[Peer, list[Round]] = {}
    for peer in peers:
        pair = Pair(replace(base, peer=peer, network="wan"), secrets, PROFILE)
        try:
            pair.round(1)
            measured[peer] = [pair.round(prompts) for _ in range(rounds)]
        finally:
            pair.close()
        progress.print(f"wide area: {peer} with {base.control} is done")
    return measured


def rows(base: Setup, measured: dict[Peer, list[Round]]) -> list[dict[str, Any]]:
    return [
        {
            "peer": peer,
            "congestion_control": base.control,
            "streams": base.streams,
            "gbit_s": gbit_s(done),
            "of_link": gbit_s(done) / PROFILE.gbit_s,
            "cpu_s_gb": median_of(done, lambda r: r.cpu_s_gb),
        }
        for peer, done in measured.items()
    ]
