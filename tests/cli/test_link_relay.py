"""`prfaas link` against a real relay, and where there is none."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from typer.testing import CliRunner, Result

from prfaas.cli.link_relay import LinkRow
from prfaas.cli.main import app
from prfaas.relay.server import RelayServer, serve_relay
from prfaas.relay.shaping import LinkProfile

PROFILE = LinkProfile(gbit_s=1.0, rtt_ms=20.0)
FLEET = """
model: {{name: m, path: weights}}
security: {{mode: plain}}
clusters:
  - {{name: east, kind: prfaas, instances: [{{name: p0, role: prefill}}]}}
  - {{name: west, kind: pd, instances: [{{name: d0, role: decode}}]}}
links:
  - {{between: [east, west], gbit_s: 1, {relay}}}
"""


@contextmanager
def running() -> Iterator[RelayServer]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    relay = asyncio.run_coroutine_threadsafe(serve_relay("127.0.0.1", 0, PROFILE), loop).result()
    try:
        yield relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def fleet_file(folder: Path, listen: str | None) -> str:
    path = folder / "fleet.yaml"
    path.write_text(FLEET.format(relay=f"relay: {{listen: '{listen}'}}" if listen else "rtt_ms: 1"))
    return str(path)


def prfaas(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["link", *arguments])


def test_a_link_is_changed_and_shown(tmp_path: Path) -> None:
    with running() as relay:
        file = fleet_file(tmp_path, f"127.0.0.1:{relay.port}")
        changed = prfaas("set", "east--west", "-c", file, "--gbit-s", "0.1", "--jitter-ms", "2")
        assert changed.exit_code == 0, changed.stderr
        assert relay.stats().profile == LinkProfile(gbit_s=0.1, rtt_ms=20.0, jitter_ms=2.0)
        assert prfaas("set", "east--west", "-c", file, "--down").exit_code == 0
        assert not relay.stats().up
        assert "down" in prfaas("show", "-c", file).stdout
        assert prfaas("set", "east--west", "-c", file, "--up", "--rtt-ms", "5").exit_code == 0
        shown = msgspec.json.decode(prfaas("show", "-c", file, "--json").stdout, type=list[LinkRow])
        assert shown == [LinkRow("east--west", relay.stats())]
        assert shown[0].state.up
        assert shown[0].state.profile.rtt_ms == 5


def refused(*arguments: str) -> str:
    result = prfaas(*arguments)
    assert result.exit_code == 2
    return result.stderr


def test_what_the_relay_refuses_changes_nothing(tmp_path: Path) -> None:
    with running() as relay:
        file = fleet_file(tmp_path, f"127.0.0.1:{relay.port}")
        assert "gbit_s is 0.0; it must be above 0" in refused("set", "east--west", "-c", file, "--gbit-s", "0")
        assert "nothing to change" in refused("set", "east--west", "-c", file)
        assert "the file has: east--west" in refused("set", "west--east", "-c", file, "--down")
        assert relay.stats().profile == PROFILE
        assert relay.stats().up


def test_a_link_without_a_relay(tmp_path: Path) -> None:
    file = fleet_file(tmp_path, None)
    assert "no relay shapes east--west" in refused("set", "east--west", "-c", file, "--down")
    assert "no relay shapes east--west" in refused("show", "-c", file)


def test_a_relay_that_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "does not answer as a relay" in refused("show", "-c", fleet_file(tmp_path, f"127.0.0.1:{port}"))


def test_something_else_on_its_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with other.accept()[0] as conn:
                conn.recv(4096)
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        thread = threading.Thread(target=answer)
        thread.start()
        told = refused("show", "-c", fleet_file(tmp_path, f"127.0.0.1:{other.getsockname()[1]}"))
        thread.join()
    assert "does not answer as a relay" in told
