"""The live case study's own parts: its client, its fleet files, and what it makes of runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from benchmarks.fleet.client import Answer, Prompts, RefusedError, ask
from benchmarks.fleet.figures import cut_figures, trial_figures
from benchmarks.fleet.fleet_file import fleet_file
from benchmarks.fleet.live_run import LinkCut, LiveRun, Served
from benchmarks.fleet.machine import CpuTime, Lateness
from benchmarks.fleet.predicted import arrivals, planned_rate, predict
from benchmarks.fleet.scales import Scales
from benchmarks.fleet.spread import spread
from benchmarks.fleet.studies import HOMOGENEOUS, NAIVE, PRFAAS, studies
from benchmarks.fleet.trials import Trial, local_only, with_cut

EVENT = b'data: {"choices":[{"text":"a"}]}\n\n'
LAST = b'data: {"choices":[],"prfaas":{"fallback":null}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_prompts_have_their_length_and_no_beginning_in_common() -> None:
    prompts = Prompts("m", 100, Random(1))
    bodies = [json.loads(prompts.body(length, 7)) for length in (1, 2, 128, 5_000)]
    assert [len(body["prompt"]) for body in bodies] == [1, 2, 128, 5_000]
    assert {body["max_tokens"] for body in bodies} == {7}
    many = [tuple(json.loads(prompts.body(64, 1))["prompt"][:2]) for _ in range(500)]
    assert len(set(many)) == 500


async def answered(pieces: list[bytes]) -> Answer:
    """What the client makes of a server's bytes."""
    async with serving(pieces) as port:
        return await ask("127.0.0.1", port, b"{}", asyncio.get_running_loop().time)


@asynccontextmanager
async def serving(pieces: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(pieces)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


OK = b"HTTP/1.1 200 OK\r\n\r\n"


async def test_the_client_reads_the_account_at_the_end() -> None:
    answer = await answered([OK, EVENT, EVENT, LAST, DONE])
    assert answer.trace == {"fallback": None}
    assert answer.sent_s <= answer.first_token_s <= answer.ended_s


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([b"HTTP/1.1 503 No\r\n\r\n", b"nobody is up"], "nobody is up"),
        ([OK, EVENT], "ended early"),
        ([OK], "ended early"),
        ([b"HTTP/1.1 200"], "before an answer"),
        ([OK, EVENT, DONE], "no account"),
    ],
)
async def test_an_answer_that_is_none_counts_as_lost(pieces: list[bytes], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        await answered(pieces)


def test_a_fleet_is_what_the_simulator_begins_with(tmp_path: Path) -> None:
    scales = Scales(2.0, 0.01, 8)
    found = studies(tmp_path, scales.output)
    fleets = {name: fleet_file(study, scales, tmp_path, tmp_path / f"{name}.yaml") for name, study in found.items()}
    roles = {
        name: [sum(i.role == role for c in f.clusters for i in c.instances) for role in ("prefill", "decode")]
        for name, f in fleets.items()
    }
    assert roles == {PRFAAS: [7, 5], HOMOGENEOUS: [9, 3], NAIVE: [4, 8]}
    assert fleets[PRFAAS].router.threshold_tokens == 19_639
    assert fleets[PRFAAS].links[0].gbit_s == pytest.approx(100 * 2 * 0.01)
    assert fleets[PRFAAS].links[0].rtt_ms == 5
    assert fleets[HOMOGENEOUS].links == ()
    assert [fleets[name].policy.name for name in found] == ["prfaas", "local_only", "all_remote"]
    slots = {i.engine.max_running_requests for c in fleets[PRFAAS].clusters for i in c.instances if i.engine}
    assert slots == {40, 64}


def test_shorter_answers_keep_their_places_as_long(tmp_path: Path) -> None:
    rates = [planned_rate(studies(tmp_path, output)[PRFAAS]) for output in (1, 8)]
    assert rates[0] == pytest.approx(rates[1], rel=0.01)
    assert rates[0] == pytest.approx(3.2, rel=0.01)


def test_what_is_predicted_is_what_is_sent(tmp_path: Path) -> None:
    study = studies(tmp_path, 64)[PRFAAS]
    came = arrivals(study, 2.0, 30, 7)
    outcome = predict(study, 2.0, 30, 7, "fluid")
    assert (outcome.requests, outcome.finished) == (30, 30)
    assert [a.prompt_tokens for a in came] == [a.prompt_tokens for a in arrivals(study, 1.0, 30, 7)]
    cut = LinkCut(5.0, 10.0, 0.01, 100.0)
    assert predict(with_cut(study, cut), 2.0, 30, 7, "fluid").ttft_s.p90 > outcome.ttft_s.p90
    assert local_only(study, 2.0, 30, cut) > 0


def served(at_s: float, ttft_s: float, *, remote: bool = True) -> Served:
    return Served(at_s, ttft_s, at_s + ttft_s + 1, 0.0, ttft_s / 2, remote, 1e9 if remote else 5e8, fell_back=False)


def test_figures_of_a_run(tmp_path: Path) -> None:
    study = studies(tmp_path, 64)[PRFAAS]
    run = LiveRun([served(float(i), 1.0 + i, remote=i % 2 == 0) for i in range(11)], ["lost"])
    run.lateness = Lateness(100, 0.1, 2)
    trial = Trial(PRFAAS, 1.0, 2.0, run, predict(study, 2.0, 20, 7, "fluid"))
    figures = trial_figures(trial, 10.0)
    assert figures["in_time"] == pytest.approx(10 / 12)
    assert figures["goodput_req_s"] == pytest.approx(10 / 10)
    assert figures["egress_gbit_s"] == pytest.approx(6 * 8 / 22)
    assert (figures["lost"], figures["requests"], figures["share_of_plan"]) == (1, 12, 0.5)
    assert figures["void"]  # two of a hundred steps were late
    assert figures["p90_error"] == pytest.approx(abs(10.0 / trial.simulated.ttft_s.p90 - 1))
    during = cut_figures(trial, LinkCut(4.0, 2.0, 0.1, 100.0), 5.0)
    assert during["requests_during"] == 2  # came at 4 and 5, and one that came at 2 left at 5
    assert during["p90_ttft_s"] == 6.0
    assert during["of_local_only"] == pytest.approx(6 / 5)


def test_spread_is_by_nearest_rank() -> None:
    found = spread([float(i) for i in range(1, 101)])
    assert (found.mean, found.p50, found.p90, found.p99) == (50.5, 51.0, 91.0, 100.0)
    assert spread([]).p90 == 0


def test_the_share_of_processors_is_between_two_looks() -> None:
    assert CpuTime(150, 400).share_since(CpuTime(100, 200)) == 0.25
    assert 0 < CpuTime.now().busy < CpuTime.now().total
