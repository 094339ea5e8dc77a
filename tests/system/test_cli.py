"""The command line: the demo as a user runs it, and what users get wrong."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fleets import overrides, write_fleet_file

pytestmark = pytest.mark.system


def prfaas(*arguments: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prfaas", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def test_demo_verifies_and_prints_one_json_object(model: Path) -> None:
    chosen = [*overrides(model), "policy.name=static_threshold"]
    done = prfaas("demo", "--verify", "--json", *(x for o in chosen for x in ("--set", o)), timeout_s=200)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["mismatched"] == 0
    assert report["verified"] >= 5
    crossed = [r for r in report["requests"] if r["prefill"]["cluster"] != r["decode"]["cluster"]]
    assert 0 < len(crossed) < len(report["requests"])
    [turn] = [r for r in report["requests"] if r["label"] == "The next turn"]
    assert all(r["kv"]["bytes_wire"] > 0 for r in crossed)
    # The decode instance goes on where the first answer ended.
    assert turn["prefill"]["instance"] == turn["decode"]["instance"]
    assert turn["usage"]["cached_tokens"] > report["requests"][0]["usage"]["prompt_tokens"]
    assert turn["kv"]["bytes_wire"] == 0
    assert report["wall_s"] > 0
    assert not report.get("link"), "with a fixed threshold there is nothing to watch"


def test_version_and_help() -> None:
    assert prfaas("version").stdout.startswith("prfaas 0.1.0")
    for command in ([], ["serve"], ["up"], ["demo"], ["relay"], ["demo-model"]):
        done = prfaas(*command, "--help")
        assert done.returncode == 0
        assert "Usage: prfaas" in done.stdout


def fails(*arguments: str) -> str:
    """The one line on stderr of a command that must exit with 2."""
    done = prfaas(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_port_in_use(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write_fleet_file(tmp_path, model, router={"http": address})
        said = fails("serve", "--role", "router", "--config", str(file))
        assert f"{address} is already in use; choose another port with --set router.http=HOST:PORT" in said
        said = fails("up", str(file))
        assert "router: router.http:" in said.replace("\n", " ")
        assert "is already in use" in said
        file = write_fleet_file(tmp_path, model)
        where = ("--config", str(file), "--set", f"clusters.1.instances.1.data={address}")
        said = fails("serve", "--role", "decode", "--name", "west-decode-0", *where)
        assert "--set clusters.1.instances.1.data=HOST:PORT" in said


def test_missing_model_directory(tmp_path: Path) -> None:
    file = write_fleet_file(tmp_path, tmp_path / "absent")
    for command in (
        ["up", str(file)],
        ["serve", "--role", "router", "--config", str(file)],
        ["serve", "--role", "decode", "--config", str(file)],
    ):
        said = fails(*command)
        assert "does not exist; `prfaas demo-model" in said.replace("\n", " ")


def test_bad_files_and_arguments(model: Path, tmp_path: Path) -> None:
    file = write_fleet_file(tmp_path, model)
    twice = tmp_path / "twice.yaml"
    twice.write_text(file.read_text().replace("name: east\n", "name: west\n"))
    assert "two clusters are named 'west'" in fails("up", str(twice))
    assert "does not exist" in fails("up", str(tmp_path / "absent.yaml"))
    serve = ("serve", "--config", str(file), "--role")
    assert "has role 'decode'" in fails(*serve, "prefill", "--name", "west-decode-0")
    assert "choose one of the file's clusters: east, west" in fails(*serve, "prefill", "--cluster", "north")
    assert "only prefills" in fails(*serve, "decode", "--cluster", "east")
    assert "described by router:" in fails(*serve, "router", "--cluster", "west")
    assert "no link 'a--b'" in fails("relay", "--config", str(file), "--link", "a--b")
    assert "exists; choose a directory" in fails("demo-model", str(tmp_path))
    assert "not KEY=VALUE" in fails("up", str(file), "--set", "nonsense")
