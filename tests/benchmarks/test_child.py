"""A peer's process, from its first word to its end, and what it costs meanwhile."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from benchmarks.engine_peers.child import Child, PeerError, what_went_wrong
from benchmarks.engine_peers.process_tree import children, cpu_s


async def test_a_child_answers_until_it_is_closed(tmp_path: Path) -> None:
    child = await Child.start(sys.executable, "machine_peer", ["1"], tmp_path / "log", {})
    assert child.pid in children(os.getpid())
    for _ in range(2):
        answer = await child.ask({})
        assert answer.keys() == {"read_gb_s", "gemm_tflop_s"}
        assert min(answer.values()) > 0
    assert cpu_s(child.pid) > 0
    await child.close()
    await child.close()
    assert child.pid not in children(os.getpid())
    assert cpu_s(child.pid) == 0


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    before = children(os.getpid())
    with pytest.raises(PeerError, match="No module named"):
        await Child.start(sys.executable, "no_such_peer", [], tmp_path / "log", {})
    assert children(os.getpid()) == before


async def test_a_child_that_ends_instead_of_answering_says_why(tmp_path: Path) -> None:
    child = await Child.start(sys.executable, "machine_peer", ["1"], tmp_path / "log", {})
    os.kill(child.pid, 9)
    with pytest.raises(PeerError):
        await child.ask({})
    await child.close()


async def test_the_cost_of_a_process_includes_what_it_started() -> None:
    spin = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nprint(1, flush=True)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin + chr(10) + 'input()'!r}])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", both, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    (inner,) = children(process.pid)
    assert cpu_s(process.pid) >= cpu_s(inner) >= 0.15
    await process.communicate(b"\n")


def test_the_first_error_of_a_log_is_the_cause() -> None:
    log = "INFO fine\nKeyError: 'gate'\nwaiting\nRuntimeError: Engine core initialization failed\n"
    assert what_went_wrong(log) == "KeyError: 'gate'"
    assert what_went_wrong("nothing named\nlast words\n") == "last words"
    assert what_went_wrong("") == "it ended without a word"
