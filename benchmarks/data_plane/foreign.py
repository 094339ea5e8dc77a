"""Other transfer engines, in programs beside this file that their own interpreter runs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.data_plane.rounds import Sent
from benchmarks.data_plane.setup import Peer

PROGRAMS: dict[Peer, str] = {
    "mooncake": "benchmarks.data_plane.mooncake_peer",
    "nixl": "benchmarks.data_plane.nixl_peer",
}
_ROOT = Path(__file__).parents[2]


class _Program:
    """One end's program."""

    def __init__(self, python: str, peer: Peer, role: str, num_bytes: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "UCX_TLS": "tcp"}
        self._command = [python, "-m", PROGRAMS[peer], role, str(num_bytes)]
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.place = self.hear()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise RuntimeError(f"{self._command} ended with {self._process.returncode}; run it by hand to see why")
        return dict(json.loads(line))


class ForeignReceiver:
    """Passive: others write into its memory."""

    def __init__(self, python: str, peer: Peer, num_bytes: int) -> None:
        self._program = _Program(python, peer, "receive", num_bytes)
        self.address = json.dumps(self._program.place)

    def expect(self, prompts: int) -> None:
        """Nothing to do: its memory is open to the sender."""

    def wait(self) -> None:
        """Nothing to wait for: the sender's word is all that these engines give."""

    def cpu_s(self) -> float:
        return float(self._program.ask(do="cpu")["cpu_s"])

    def digest(self) -> int:
        return int(self._program.ask(do="digest")["digest"])


class ForeignSender:
    """Writes into the receiver's memory."""

    def __init__(self, python: str, peer: Peer, num_bytes: int, address: str) -> None:
        self._program = _Program(python, peer, "send", num_bytes)
        self._place = json.loads(address)

    def send(self, prompts: int) -> Sent:
        done = self._program.ask(do="send", prompts=prompts, **self._place)
        return Sent(done["seconds"], done["cpu_s"])

    def digest(self) -> int:
        return int(self._program.ask(do="digest")["digest"])
