"""All peers on one machine's loopback, in turns."""

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.data_plane.pair import Pair
from benchmarks.data_plane.rounds import Round
from benchmarks.data_plane.setup import Peer, Setup
from benchmarks.report import Column, median_of, progress

Rounds = Mapping[Peer, Sequence[Round]]

COLUMNS = (
    Column("peer", "peer"),
    Column("congestion\ncontrol", "congestion_control"),
    Column("Gbit/s", "gbit_s", ".1f"),
    Column("slowest", "slowest_gbit_s", ".1f"),
    Column("fastest", "fastest_gbit_s", ".1f"),
    Column("of\niperf3", "of_iperf3", ".0%"),
    Column("of a plain\nsocket", "of_plain", ".0%"),
    Column("CPU s/GB\nboth ends", "cpu_s_gb", ".3f"),
    Column("CPU s/GB\nsender", "sender_cpu_s_gb", ".3f"),
)


def measure(base: Setup, peers: Sequence[Peer], prompts: int, rounds: int, secrets: str) -> dict[Peer, list[Round]]:
    """Peers take turns, so that what else the machine does hits all of them; the first round warms up."""
    measured: dict[Peer, list[Round]] = {peer: [] for peer in peers}
    with _pairs(base, peers, secrets) as pairs:
        for i in range(rounds + 1):
            for peer, pair in pairs.items():
                done = pair.round(prompts)
                if i:
                    measured[peer].append(done)
            progress.print(f"loopback, {base.control}: round {i} of {rounds}" if i else f"{base.control}: warm")
    return {peer: done for peer, done in measured.items() if done}


def rows(control: str, measured: Rounds) -> list[dict[str, Any]]:
    return [
        {
            "peer": peer,
            "congestion_control": control,
            "gbit_s": gbit_s(done),
            "slowest_gbit_s": min(r.gbit_s for r in done),
            "fastest_gbit_s": max(r.gbit_s for r in done),
            "of_iperf3": ratio(measured, peer, "iperf3"),
            "of_plain": ratio(measured, peer, "plain"),
            "cpu_s_gb": median_of(done, lambda r: r.cpu_s_gb),
            # iperf3 gives the CPU time of both ends together.
            "sender_cpu_s_gb": median_of(done, lambda r: r.sent.cpu_s / r.gb) if peer != "iperf3" else None,
        }
        for peer, done in measured.items()
    ]


def gbit_s(done: Sequence[Round]) -> float:
    return median_of(done, lambda r: r.gbit_s)


def ratio(measured: Rounds, peer: Peer, floor: Peer) -> float | None:
    """The median of each round's ratio: both were measured within seconds of each other."""
    if floor not in measured or peer not in measured:
        return None
    pairs = zip(measured[peer], measured[floor], strict=True)
    return statistics.median(ours.gbit_s / theirs.gbit_s for ours, theirs in pairs)


@contextlib.contextmanager
def _pairs(base: Setup, peers: Sequence[Peer], secrets: str) -> Iterator[dict[Peer, Pair]]:
    """Processes of every peer; one that does not start is left out, and said so."""
    pairs: dict[Peer, Pair] = {}
    try:
        for peer in peers:
            try:
                pairs[peer] = Pair(replace(base, peer=peer), secrets)
            except EOFError:
                progress.print(f"{peer} does not start; its reason is above")
        yield pairs
    finally:
        for pair in pairs.values():
            pair.close()
