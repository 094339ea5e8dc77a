"""The parts of the gateway's benchmark, and the benchmark itself with a small tokenizer and without foreign peers."""

import json
from pathlib import Path

import pytest
import uvloop

from benchmarks.gateway import figures, model
from benchmarks.gateway.figures import LongPrompts
from benchmarks.gateway.http import AnswerError
from benchmarks.gateway.prompts import KB, LONG_KB, Prompts
from benchmarks.gateway.rounds import Loads, added_ms, answer_times, loads
from benchmarks.gateway.servers import Server, ServerError, free_port
from benchmarks.gateway.targets import OURS, PASSTHROUGH, STRAIGHT, Targets


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prompts]:
    """One with a model, and prompts for it."""
    path = tmp_path_factory.mktemp("gateway")
    text = model.write_model(path / "model", vocab=600, trained_bytes=100_000)
    return path, Prompts(text, model.NAME, 0)


def test_prompts_differ_and_conversations_begin_alike(directory: tuple[Path, Prompts]) -> None:
    _, prompts = directory
    bodies = {prompts.body(prompts.unseen(KB)) for _ in range(20)}
    assert len(bodies) == 20
    assert all(KB <= len(json.loads(body)["messages"][0]["content"]) <= KB + 30 for body in bodies)
    chat = prompts.conversation(LONG_KB)
    longer = prompts.go_on(chat)
    assert longer[: len(chat)] == chat
    assert [message["role"] for message in longer[-3:]] == ["user", "assistant", "user"]


def test_gateway_and_backend_are_measured_and_who_is_missing_is_named(directory: tuple[Path, Prompts]) -> None:
    path, prompts = directory

    async def measure(targets: Targets) -> tuple[dict[str, list[float]], dict[str, Loads]]:
        await targets.start(None)
        ends = {name: targets.servers[name] for name in (OURS, STRAIGHT)}
        times = await answer_times(ends, lambda: prompts.body(prompts.unseen(KB)), rounds=1, each=2)
        stream, short = (prompts.body(prompts.unseen(KB), tokens, stream=True) for tokens in (20, 2))
        measured = await loads(
            ends, lambda: prompts.body(prompts.unseen(KB)), stream, short, rounds=1, seconds=0.1, stream_tokens=20
        )
        with pytest.raises(AnswerError, match="chunks in 32 streams of 256 tokens"):
            await loads(ends, lambda: short, stream, short, rounds=1, seconds=0.1, stream_tokens=256)
        return times, measured

    with Targets(path, prompts.body(prompts.unseen(KB))) as targets:
        times, measured = uvloop.run(measure(targets))
        pids = [server.pid for server in targets.servers.values()]
    assert targets.missing.keys() >= {"sglang_router", "vllm_router"}
    assert {name: len(taken) for name, taken in times.items()} == {OURS: 2, STRAIGHT: 2}
    assert all(load.req_s[0] > 0 and load.first_chunk_ms[0] > 0 for load in measured.values())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_server_that_ends_says_why(tmp_path: Path) -> None:
    server = Server.start(("false",), f"http://127.0.0.1:{free_port()}", tmp_path / "log")
    with pytest.raises(ServerError, match="does not answer"):
        uvloop.run(server.answers(b"{}"))
    server.close()
    with pytest.raises(ServerError, match="no-such-program"):
        Server.start(("no-such-program",), "http://127.0.0.1:1", tmp_path / "log")


def test_figures_name_what_is_missed() -> None:
    times = {OURS: [2.0, 2.1, 2.2], STRAIGHT: [0.1, 0.1, 0.1], PASSTHROUGH: [0.5, 0.5, 0.5]}
    measured = {
        OURS: Loads([400.0], [1.0], [0.03], [1.5]),
        STRAIGHT: Loads([9000.0], [0.1], [0.01], [0.1]),
        PASSTHROUGH: Loads([1000.0], [0.5], [0.04], [0.5]),
    }
    long = [LongPrompts(case, {OURS: [30.0], STRAIGHT: [1.0]}, 20.0, 90.0) for case in ("unseen", "grows")]
    found = figures.figures(figures.peer_rows(times, measured), long)
    assert found["added_ms_p50"] == pytest.approx(2.0)
    assert found["added_ms_p50_100kb"] == pytest.approx(9.0)
    assert found["req_s_of_passthrough"] == pytest.approx(0.4)
    assert found["chunks_of_passthrough"] == pytest.approx(0.75)
    assert found["peers"][PASSTHROUGH]["added_ms_p50"] == pytest.approx(0.4)
    assert found["targets_missed"] == ["added_ms_p50", "added_ms_p50_100kb"]
    assert added_ms(times, OURS, 0.99) == pytest.approx(2.1)
