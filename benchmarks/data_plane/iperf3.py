"""iperf3 with as many streams as ours: what the kernel gives without Python and without page memory."""

import json
import shutil
import subprocess
from typing import Any

from benchmarks.data_plane.rounds import Sent
from prfaas.config.sections import split_address

PORT = 5201
TIMEOUT_S = 300


def installed() -> bool:
    return shutil.which("iperf3") is not None


class Iperf3Receiver:
    """A server for one test at a time; it overwrites one small buffer."""

    def __init__(self, host: str) -> None:
        self.address = f"{host}:{PORT}"
        self._server: subprocess.Popen[bytes] | None = None

    def expect(self, prompts: int) -> None:
        del prompts
        command = ["iperf3", "-s", "-1", "-p", str(PORT), "--forceflush"]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        while b"listening" not in (line := self._server.stdout.readline()):
            assert line, f"the iperf3 server ended; port {PORT} may be in use"

    def wait(self) -> None:
        assert self._server is not None
        self._server.communicate(timeout=TIMEOUT_S)

    def cpu_s(self) -> float:
        """Nothing: the client knows both ends' figures."""
        return 0.0

    def digest(self) -> None:
        return None


class Iperf3Sender:
    """The client; its CPU time is that of both ends."""

    def __init__(self, address: str, control: str, streams: int, prompt_bytes: int) -> None:
        self._host, port = split_address(address)
        self._command = ["iperf3", "-c", self._host, "-p", str(port), "-J", "-C", control, "-P", str(streams)]
        self._prompt_bytes = prompt_bytes

    def send(self, prompts: int) -> Sent:
        command = [*self._command, "-n", str(prompts * self._prompt_bytes)]
        client = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
        end: dict[str, Any] = json.loads(client.stdout)["end"]
        received, load = end["sum_received"], end["cpu_utilization_percent"]
        measured_s = float(received["seconds"])
        # It stops somewhat behind the number of bytes that it was asked for.
        seconds = measured_s * prompts * self._prompt_bytes / received["bytes"]
        return Sent(seconds, (load["host_total"] + load["remote_total"]) / 100 * measured_s)

    def digest(self) -> None:
        return None
