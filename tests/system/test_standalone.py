"""One command serves one model: `prfaas serve --role decode --model DIR`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

from tests.system.engines import engine_of
from tests.system.fleets import free_ports
from tests.system.test_cli import fails

pytestmark = pytest.mark.system


def test_one_command_serves_a_model(model: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "prfaas", "serve", "--role", "decode", "--model", str(model)]
    log = tmp_path / "log"
    with log.open("wb") as to:
        process = subprocess.Popen(
            [*command, "--http", f"127.0.0.1:{port}", "--set", "engine.threads=1"], stdout=to, stderr=to
        )
    try:
        wait_until_ready(port, process, log)
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        assert [card.id for card in client.models.list()] == [model.name]
        answer = client.chat.completions.create(
            model=model.name, messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens >= 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_it_ends_when_its_only_instance_does(model: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "prfaas", "serve", "--role", "decode", "--model", str(model)]
    log = tmp_path / "log"
    with log.open("wb") as to:
        process = subprocess.Popen([*command, "--http", f"127.0.0.1:{port}"], stdout=to, stderr=to)
    try:
        wait_until_ready(port, process, log)
        (instance,) = (pid for pid in children(process.pid) if children(pid))
        os.kill(engine_of(instance), signal.SIGKILL)
        assert process.wait(timeout=40) == 1, log.read_text()
        assert "decode-0 ended with code 2" in log.read_text()
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/ready").status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_what_does_not_go_together_is_refused(model: Path) -> None:
    assert "--role decode" in fails("serve", "--role", "prefill", "--model", str(model))
    assert "--config FILE" in fails("serve", "--role", "decode")
    assert "does not exist" in fails("serve", "--role", "decode", "--model", "/nowhere/at/all")
