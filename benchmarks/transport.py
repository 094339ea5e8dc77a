"""The KV data plane: against iperf3 and its peers on loopback, over a lossy link, under resets, and its codecs.

The floor is iperf3 with as many streams and the same congestion control, in turns with ours: whoever wants frames,
digests, pages or encryption pays on top of it. The first of `--congestion-control` is what the headline figures are of.
"""

import os
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data_plane import asked, certificates, codecs, iperf3, loopback, namespace, resets, tun_link, wan
from benchmarks.data_plane.foreign import PROGRAMS
from benchmarks.data_plane.plain import default_congestion_control
from benchmarks.data_plane.setup import OURS, Peer, Setup
from benchmarks.report import Column, Part, median_of, progress, show_parts


class Name(StrEnum):
    """A part of the benchmark."""

    LOOPBACK = "loopback"
    WAN = "wan"
    RESETS = "resets"
    CODECS = "codecs"


LONG_PATH_CONTROL = "bbr"
"""What "auto" takes there."""

CODEC_COLUMNS = (
    Column("codec", "codec"),
    Column("ratio", "ratio", ".3f"),
    Column("RMS error,\nrelative", "rel_rms", ".5f"),
    Column("encode\nGB/s", "encode_gb_s", ".2f"),
    Column("decode\nGB/s", "decode_gb_s", ".2f"),
)


def main(
    part: Annotated[list[Name] | None, typer.Option(help="All by default. Repeatable.")] = None,
    gb: Annotated[float, typer.Option(min=0.3, help="About how much a round moves; whole prompts of 0.31 GB.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each peer; tables show medians.")] = 5,
    streams: Annotated[
        int, typer.Option(min=1, max=64, help="TCP connections, of iperf3 too; by default one a core, but at most 4.")
    ] = min(4, os.cpu_count() or 4),
    long_streams: Annotated[int, typer.Option(min=1, max=64, help="The same on the long path.")] = 8,
    congestion_control: Annotated[
        list[str] | None, typer.Option(help="On loopback; by default cubic, and the system's. Repeatable.")
    ] = None,
    peers_python: Annotated[
        Path | None, typer.Option(exists=True, help="Interpreter that has Mooncake's transfer engine and NIXL.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Measure the KV data plane."""
    chosen = part or list(Name)
    controls = list(dict.fromkeys(congestion_control or ["cubic", default_congestion_control()]))
    base = Setup("plain", controls[0], streams, python=str(peers_python) if peers_python else None)
    prompts = max(1, round(gb * 1e9 / base.prompt_bytes))
    report = _Report(base, prompts, rounds)
    with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as secrets:
        certificates.make(Path(secrets))
        if Name.LOOPBACK in chosen:
            report.loopback(controls, secrets)
        if Name.WAN in chosen:
            report.wan(long_streams, secrets)
        if Name.RESETS in chosen:
            report.resets(secrets)
    if Name.CODECS in chosen:
        report.codecs()
    report.show(json_output=json_output)


class _Report:
    """Measures part after part, and keeps the figures of each."""

    def __init__(self, base: Setup, prompts: int, rounds: int) -> None:
        self._base = base
        self._prompts = prompts
        self._rounds = rounds
        self._result: dict[str, Any] = {}
        self._parts: list[Part] = []

    def loopback(self, controls: Sequence[str], secrets: str) -> None:
        """Each congestion control in turn; the headline is the first one's."""
        rows = []
        for control in controls:
            base = _on_loopback(self._base, control)
            if base is None:
                progress.print(f"not root: no loopback with {control}")
                continue
            measured = loopback.measure(base, _peers(base), self._prompts, self._rounds, secrets)
            rows += loopback.rows(control, measured)
            if "loopback_gbit_s" in self._result:
                continue
            self._result |= {
                "loopback_gbit_s": {peer: loopback.gbit_s(done) for peer, done in measured.items()},
                "of_iperf3": {peer: loopback.ratio(measured, peer, "iperf3") for peer in OURS},
                "cpu_s_per_gb": median_of(measured["checked"], lambda r: r.cpu_s_gb),
                "congestion_control": control,
            }
        self._result["loopback_rows"] = rows
        self._parts.append(Part("KV data plane on loopback", loopback.COLUMNS, rows))

    def wan(self, streams: int, secrets: str) -> None:
        missing = tun_link.why_not()
        if missing is not None:
            progress.print(f"no long path: {missing}")
            return
        base = Setup("plain", LONG_PATH_CONTROL, streams)
        peers: list[Peer] = ["checked", "mtls", *_installed_iperf3()]
        measured = wan.measure(base, peers, 2, self._rounds, secrets)
        profile = wan.PROFILE
        self._result["wan"] = {
            "link_gbit_s": profile.gbit_s,
            "achieved_gbit_s": loopback.gbit_s(measured["checked"]),
            "rtt_ms": profile.rtt_ms,
            "loss": profile.loss,
            "gbit_s": {peer: loopback.gbit_s(done) for peer, done in measured.items()},
            "streams": streams,
            "congestion_control": base.control,
        }
        title = f"Over {profile.gbit_s:g} Gbit/s, {profile.rtt_ms:g} ms, {profile.loss:.1%} of packets lost"
        self._parts.append(Part(title, wan.COLUMNS, wan.rows(base, measured)))

    def resets(self, secrets: str) -> None:
        progress.print("resets")
        found = resets.measure(self._base, secrets)
        self._result["resets"] = found
        title = f"With every connection reset after {resets.PROFILE.reset_every_s:g} s"
        self._parts.append(Part(title, resets.COLUMNS, [found]))

    def codecs(self) -> None:
        progress.print("codecs")
        found = codecs.measure()
        self._result["codecs"] = found
        rows = [{"codec": name, **figures} for name, figures in found.items()]
        self._parts.append(Part("Codecs, one thread", CODEC_COLUMNS, rows))

    def show(self, *, json_output: bool) -> None:
        rows = asked.rows(self._result)
        if rows:
            self._parts.append(Part("What is asked of it", asked.COLUMNS, rows))
        facts = {
            "streams": self._base.streams,
            "bytes_per_round": self._prompts * self._base.prompt_bytes,
            "rounds": self._rounds,
        }
        result = {**self._result, "asked": rows}
        show_parts("KV data plane", self._parts, result, facts, json_output=json_output)


def _on_loopback(base: Setup, control: str) -> Setup | None:
    """The machine's own loopback if its sockets have that congestion control anyway."""
    if control == default_congestion_control():
        return Setup("plain", control, base.streams, "machine", python=base.python)
    if not namespace.can_enter():
        return None
    return Setup("plain", control, base.streams, "own", python=base.python)


def _peers(base: Setup) -> list[Peer]:
    foreign: list[Peer] = list(PROGRAMS) if base.python else []
    return ["plain", *OURS, *_installed_iperf3(), *foreign]


def _installed_iperf3() -> list[Peer]:
    return ["iperf3"] if iperf3.installed() else []


if __name__ == "__main__":
    typer.run(main)
