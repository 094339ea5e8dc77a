"""The KV data plane over loopback between two processes, page memory to page memory, against a plain socket.

The floor is one blocking Python socket that moves the same bytes from the same memory with the same congestion control:
whoever wants frames, digests and pages pays on top of it. One round sends prompts of 32K tokens back to back.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from benchmarks.data_plane import iperf3, namespace
from benchmarks.data_plane.lane import Lane
from benchmarks.data_plane.memory import PROMPT_BYTES
from benchmarks.data_plane.prfaas_plane import CONFIG, STEP_TOKENS
from benchmarks.data_plane.rounds import Round
from benchmarks.report import Column, median_of, progress, show

COLUMNS = (
    Column("peer", "peer"),
    Column("congestion\ncontrol", "congestion_control"),
    Column("GB/s", "gb_s", ".2f"),
    Column("of plain\nsocket", "of_floor", ".0%"),
    Column("CPU s/GB\nsender", "sender_cpu_s_gb", ".3f"),
    Column("CPU s/GB\nreceiver", "receiver_cpu_s_gb", ".3f"),
    Column("sender's wall time", "sender_steps", ".0%"),
    Column("receiver's wall time", "receiver_steps", ".0%"),
)


def main(
    gb: Annotated[float, typer.Option(min=0.1, help="About how much one round moves; whole prompts of 0.31 GB.")] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each peer; the table shows medians.")] = 7,
    cubic: Annotated[bool, typer.Option(help="Also CUBIC, in a network namespace of its own (root).")] = True,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure the KV data plane on loopback."""
    prompts = max(1, round(gb * 1e9 / PROMPT_BYTES))
    peers = ["prfaas", "plain", *(["iperf3"] if iperf3.installed() else [])]
    lanes = _lanes(prompts, cubic=cubic)
    try:
        measured = _measure(lanes, peers, rounds)
    finally:
        for lane in lanes:
            lane.close()
    facts = {
        "bytes_per_round": prompts * PROMPT_BYTES,
        "rounds": rounds,
        "chunk_tokens": STEP_TOKENS,
        "frame_bytes": CONFIG.frame_bytes,
    }
    show("KV data plane on loopback", COLUMNS, _rows(measured), facts, json_output=json_output)


def _lanes(prompts: int, *, cubic: bool) -> list[Lane]:
    progress.print("filling page memory")
    lanes = [Lane(None, prompts)]
    if cubic and lanes[0].control != "cubic":
        if namespace.can_enter():
            lanes.append(Lane("cubic", prompts))
        else:
            progress.print(f"not root: only with the system's congestion control, {lanes[0].control}")
    return lanes


def _measure(lanes: Sequence[Lane], peers: Sequence[str], rounds: int) -> dict[tuple[str, str], list[Round]]:
    """Peers take turns, so that what else the machine does hits all of them; the first round warms up."""
    measured: dict[tuple[str, str], list[Round]] = {}
    for i in range(rounds + 1):
        for lane in lanes:
            for peer in peers:
                done = lane.round(peer)
                if i:
                    measured.setdefault((lane.control, peer), []).append(done)
        progress.print(f"round {i} of {rounds}" if i else "warm")
    return measured


def _rows(measured: Mapping[tuple[str, str], Sequence[Round]]) -> list[dict[str, Any]]:
    rows = []
    for (control, peer), done in measured.items():
        gb_s = median_of(done, lambda r: r.gb_s)
        rows.append(
            {
                "peer": peer,
                "congestion_control": control,
                "gb_s": gb_s,
                "of_floor": gb_s / median_of(measured[control, "plain"], lambda r: r.gb_s),
                "sender_cpu_s_gb": median_of(done, lambda r: r.sender_cpu_s / r.gb),
                "receiver_cpu_s_gb": median_of(done, lambda r: r.receiver_cpu_s / r.gb),
                "sender_steps": _shares([(r.seconds, r.sender_steps) for r in done]),
                "receiver_steps": _shares([(r.seconds, r.receiver_steps) for r in done]),
            }
        )
    return rows


def _shares(rounds: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Each step's share of the round's wall time; socket calls include waiting for the other end."""
    steps = sorted({step for _, seconds in rounds for step in seconds})
    return {step: median_of(rounds, lambda r, step=step: r[1].get(step, 0.0) / r[0]) for step in steps}  # type: ignore[misc]


if __name__ == "__main__":
    typer.run(main)
