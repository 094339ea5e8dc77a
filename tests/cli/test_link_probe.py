"""A probe against a real data server, and against others that answer as a test tells them."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from prfaas.cli.build_credentials import build_credentials
from prfaas.cli.link_probe import ProbeOptions
from prfaas.cli.link_probe_report import ProbeReport, words
from prfaas.cli.main import app
from prfaas.config.load import load
from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.errors import ConfigError
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.framing import message_header
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox
from prfaas.transport.probe import Probe, ProbeRun, ProbeTarget, Reached
from prfaas.transport.probe_advice import advise
from prfaas.transport.server import DataServer
from prfaas.wire.header import HEADER_BYTES, Kind, unpack
from prfaas.wire.messages import Ack, Rejected, Welcome, encode
from tests.core.configs import PUBLISHED

FLEET = """
model: {name: m, path: weights}
clusters:
  - {name: east, kind: prfaas, instances: [{name: p0, role: prefill}]}
  - {name: west, kind: pd, instances: [{name: d0, role: decode}]}
"""
WELCOME = Welcome(3, "west-decode-0", "west", 7, 1 << 20, 8 << 20, 8)
MODEL = ModelShape("m", (LayerCache("mla", True, (CacheTensor("latent", (500,), "bfloat16"),)),), 1 << 20)
Script = Callable[[socket.socket], None]


@contextmanager
def data_server(credentials: Credentials | None = None) -> Iterator[str]:
    """The address of a real one."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = TransportSection(max_streams=4, frame_bytes=1 << 18, credit_bytes=8 << 20)
    metrics = InstanceMetrics(CollectorRegistry())
    host = Host("west-decode-0", "west", 7)
    server = DataServer(listener, Inbox(time.monotonic), host, config, credentials, metrics, time.monotonic)
    server.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.close()


@pytest.fixture
def data_port() -> Iterator[str]:
    with data_server() as address:
        yield address


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet file with a model's configuration beside it, and certificates for the fleet."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text(json.dumps(PUBLISHED["Kimi-Linear-48B-A3B"]))
    said = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["certs", "--out", str(tmp_path / "made"), "-c", str(file)])
    assert said.exit_code == 0, said.output
    file.write_text(FLEET + said.output[said.output.index("security:") :])
    return file


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], str]]:
    """Starts a server whose every connection is handled by a script; returns its address."""
    with ExitStack() as undo:

        def serve(script: Script) -> str:
            listener = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
            undo.callback(listener.shutdown, socket.SHUT_RDWR)

            def accept() -> None:
                while True:
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        return
                    with sock:
                        script(sock)

            threading.Thread(target=accept, daemon=True).start()
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield serve


def hear(sock: socket.socket) -> Kind | None:
    """The kind of the next frame, whose payload is thrown away; None at the end."""
    try:
        data = sock.recv(HEADER_BYTES, socket.MSG_WAITALL)
        if len(data) < HEADER_BYTES:
            return None
        header = unpack(data, max_payload_bytes=1 << 20)
        sock.recv(header.wire_bytes, socket.MSG_WAITALL)
    except OSError:
        return None
    return header.kind


def say(sock: socket.socket, kind: Kind, message: Welcome | Rejected | Ack) -> None:
    payload = encode(message)
    sock.sendall(message_header(kind, payload).pack() + payload)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["link-probe", *arguments])


def test_measures_and_advises(data_port: str) -> None:
    result = run("--to", data_port, "--plain", "--seconds", "0.5", "--streams", "2,1,64", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["instance"], report["target"], report["max_streams"]) == ("west-decode-0", "west", 4)
    assert [r["streams"] for r in report["runs"][:2]] == [1, 2], "64 are more than the receiver takes"
    assert all(r["gbit_s"] > 0 for r in report["runs"])
    assert report["gbit_s"] >= 0.95 * max(r["gbit_s"] for r in report["runs"]) - 0.001
    assert 0 < report["rtt_ms"] < 1000
    assert "between: [this-cluster, west]" in report["snippet"]
    assert (report["model"], report["transfers"]) == (None, [])


def test_says_it_in_words(data_port: str) -> None:
    result = run("--to", data_port, "--plain", "--seconds", "0.5", "--streams", "1")
    assert result.exit_code == 0, result.output
    assert "is west-decode-0 of cluster west" in result.stdout
    assert "The path carries" in result.stdout
    assert "use 1 stream and" in result.stdout
    assert "min_streams: 1" in result.stdout


def test_asks_as_an_instance_with_its_certificate_and_knows_the_model(fleet: Path) -> None:
    credentials = build_credentials(load(fleet), "d0", "west", InstanceMetrics(CollectorRegistry()).security)
    with data_server(credentials) as address:
        said = run("--to", address, "-c", str(fleet), "--name", "p0", "--seconds", "0.5", "--streams", "2", "--json")
        assert said.exit_code == 0, said.output
        report = json.loads(said.stdout)
        assert (report["source"], report["target"], report["model"]) == ("east", "west", "m")
        assert [transfer["tokens"] for transfer in report["transfers"]] == [8192, 32768, 131072]
        assert "between: [east, west]" in report["snippet"]
        plain = run("--to", address, "--plain")
    assert plain.exit_code == 2
    assert "if its fleet uses TLS" in " ".join(plain.output.split())


def test_a_way_that_kv_does_not_take_is_named(fleet: Path) -> None:
    fleet.write_text(fleet.read_text() + "links: [{between: [east, west], gbit_s: 1, proxy: 'proxy.test:3128'}]\n")
    credentials = build_credentials(load(fleet), "d0", "west", InstanceMetrics(CollectorRegistry()).security)
    with data_server(credentials) as address:
        said = run("--to", address, "-c", str(fleet), "--name", "p0", "--seconds", "0.5", "--streams", "1", "--json")
    assert said.exit_code == 0, said.output
    assert "by the fleet file, give --proxy proxy.test:3128 from east to west" in said.stderr


def test_a_port_of_something_else_is_told_apart(scripted: Callable[[Script], str]) -> None:
    def speak_http(sock: socket.socket) -> None:
        hear(sock)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(HEADER_BYTES))

    result = run("--to", scripted(speak_http), "--plain")
    assert result.exit_code == 2
    assert "does not answer as a data port of this version" in " ".join(result.output.split())


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = run("--to", f"127.0.0.1:{unused.getsockname()[1]}", "--plain")
    assert result.exit_code == 2
    assert "cannot connect to 127.0.0.1" in result.output


def test_a_receiver_that_hangs_up_may_want_tls(scripted: Callable[[Script], str]) -> None:
    def hang_up(sock: socket.socket) -> None:
        hear(sock)

    result = run("--to", scripted(hang_up), "--plain")
    assert result.exit_code == 2
    assert "if its fleet uses TLS, probe as an instance of it: --config FILE --name INSTANCE" in " ".join(
        result.output.split()
    )


def test_a_receiver_that_resets_may_want_tls_too(scripted: Callable[[Script], str]) -> None:
    def reset(sock: socket.socket) -> None:
        hear(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    result = run("--to", scripted(reset), "--plain")
    assert result.exit_code == 2
    assert "if its fleet uses TLS" in " ".join(result.output.split())


def test_a_refusal_is_told_in_the_receivers_words(scripted: Callable[[Script], str]) -> None:
    def refuse(sock: socket.socket) -> None:
        hear(sock)
        say(sock, Kind.REJECTED, Rejected("peer_refused", "come back in 30 s"))

    result = run("--to", scripted(refuse), "--plain")
    assert result.exit_code == 2
    assert "come back in 30 s" in result.output


def greeted(rest: Script) -> Script:
    def script(sock: socket.socket) -> None:
        hear(sock)
        say(sock, Kind.WELCOME, WELCOME)
        # Connections that only ask for the round trip end here.
        if hear(sock) is Kind.PROBE:
            rest(sock)

    return script


def test_an_acknowledgement_of_more_than_was_sent(scripted: Callable[[Script], str]) -> None:
    def exaggerate(sock: socket.socket) -> None:
        say(sock, Kind.ACK, Ack(10_000, 1 << 20))
        while hear(sock):
            pass

    result = run("--to", scripted(greeted(exaggerate)), "--plain", "--streams", "1")
    assert result.exit_code == 2
    assert "acknowledges 10000 frames" in result.output


def test_a_connection_that_ends_during_the_measurement(scripted: Callable[[Script], str]) -> None:
    result = run("--to", scripted(greeted(lambda _: None)), "--plain", "--streams", "1")
    assert result.exit_code == 2
    assert "error:" in result.output
    assert "connection" in result.output


def test_frames_and_windows_keep_to_what_the_receiver_grants(scripted: Callable[[Script], str]) -> None:
    sizes: set[int] = set()

    def acknowledge(sock: socket.socket) -> None:
        frames = 1
        say(sock, Kind.ACK, Ack(frames, 1 << 20))
        while len(data := sock.recv(HEADER_BYTES, socket.MSG_WAITALL)) == HEADER_BYTES:
            header = unpack(data, max_payload_bytes=1 << 20)
            sock.recv(header.wire_bytes, socket.MSG_WAITALL)
            sizes.add(header.wire_bytes)
            frames += 1
            say(sock, Kind.ACK, Ack(frames, 1 << 20))

    def script(sock: socket.socket) -> None:
        hear(sock)
        say(sock, Kind.WELCOME, Welcome(3, "d", "west", 7, 5000, 20_000, 8))
        if hear(sock) is Kind.PROBE:
            acknowledge(sock)

    target = ProbeTarget(scripted(script), None, Caller("p", "east"), None, 5.0)
    probe = Probe(target, time.monotonic)
    probe.reach()
    assert probe.measure(1, 0.3, None, lambda *_: None).bytes_per_s > 0
    assert sizes == {5000}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --plain, or --config FILE and --name"),
        (["--plain", "--config", "x.yaml", "--name", "a"], "either --plain, or --config"),
        (["--config", "x.yaml"], "either --plain, or --config"),
        (["--plain", "--name", "a"], "either --plain, or --config"),
        (["--plain", "--streams", "1,x"], "numbers from 1 to 64"),
        (["--plain", "--streams", "0"], "numbers from 1 to 64"),
        (["--plain", "--proxy", "nowhere"], "--proxy: 'nowhere' is not HOST:PORT"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str) -> None:
    result = run("--to", "127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_an_instance_that_the_file_lacks(fleet: Path) -> None:
    result = run("--to", "127.0.0.1:1", "--config", str(fleet), "--name", "d1")
    assert result.exit_code == 2
    assert "--name d1: the file has d0, p0" in result.output


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        ProbeOptions.parsed("127.0.0.1:1", tmp_path / "none", "d1", None, 1.0, "1", plain=False)


def probe_run(streams: int, gbit_s: float, name: str = "bbr", lost: float = 0.0) -> ProbeRun:
    return ProbeRun(streams, gbit_s * 1e9 / 8, 0.12, lost, name)


def test_the_fewest_streams_that_fill_the_path_are_advised() -> None:
    runs = [probe_run(1, 0.3), probe_run(2, 0.6), probe_run(4, 0.97), probe_run(8, 1.0)]
    advice = advise([*runs, probe_run(4, 1.0, "cubic")], 0.02, MODEL)
    assert (advice.streams, advice.congestion_control) == (4, "bbr")
    assert advice.gbit_s == pytest.approx(0.97)
    assert advice.rtt_added_s == pytest.approx(0.1)
    tokens, seconds = advice.transfer_s[0]
    assert tokens == 8192
    assert seconds == pytest.approx(8192 * 1000 * 8 / 0.97e9)


def test_a_congestion_control_that_carries_more_is_advised() -> None:
    advice = advise([probe_run(1, 0.2, "cubic"), probe_run(2, 0.4, "cubic"), probe_run(2, 0.9, "bbr")], 0.02, None)
    assert (advice.streams, advice.congestion_control, advice.transfer_s) == (2, "bbr", ())


def test_what_is_worth_a_word_is_said() -> None:
    runs = [probe_run(4, 0.97, lost=0.002)]
    advice = advise(runs, 0.02, MODEL)
    reached = Reached(WELCOME, 0.0213, 0.02)
    report = ProbeReport.of("h:1", Caller("p", "east"), reached, runs, advice, "qwen", automatic=True)
    text = "\n".join(words(report))
    assert "0.97 Gbit/s: use 4 streams and bbr" in text
    assert "100 ms more" in text
    assert "0.20 % of the bytes were sent again" in text
    assert "KV of 128K tokens of qwen: 1.08 s" in text
    assert report.snippet.splitlines() == [
        "links:",
        "  - between: [east, west]",
        "    gbit_s: 0.97",
        "    rtt_ms: 21.3",
        "transport:",
        "  min_streams: 4",
        "  congestion_control: auto",
    ]
    home = ProbeReport.of("h:1", Caller("p", "west"), reached, runs, advice, None, automatic=False)
    assert home.snippet.splitlines() == ["transport:", "  min_streams: 4", "  congestion_control: bbr"]
    assert "With --config and --name" in words(home)[-1]
