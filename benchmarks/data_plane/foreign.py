"""Other transfer engines, in programs beside this file that their own interpreter runs."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data_plane.rounds import Sent
from benchmarks.data_plane.setup import Peer

PROGRAMS: dict[Peer, str] = {
    "mooncake": "benchmarks.data_plane.mooncake_peer",
    "nixl": "benchmarks.data_plane.nixl_peer",
}
_ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class _Program:
    """One end's program. It stands still but for its own rounds: some engines turn round and round when idle."""

    def __init__(self, python: str, peer: Peer, role: str, num_bytes: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "UCX_TLS": "tcp"}
        self._command = [python, "-m", PROGRAMS[peer], role, str(num_bytes)]
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # One that stands still would outlive us.
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no other threads
        )
        self.place = self.hear()
        self.halt()

    def go(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def halt(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        self.go()
        yield
        self.halt()

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
        self._over = True

    def expect(self, prompts: int) -> None:  # noqa: ARG002 - as other receivers have it
        """Its memory is open to the sender; it has only to run."""
        self._over = False
        self._program.go()

    def wait(self) -> None:
        """Nothing to wait for: the sender's word is all that these engines give."""
        self._over = True

    def cpu_s(self) -> float:
        """Asked for at the beginning and, for the last time, behind the end of a round."""
        spent_s = float(self._program.ask(do="cpu")["cpu_s"])
        if self._over:
            self._program.halt()
        return spent_s

    def digest(self) -> int:
        with self._program.going():
            return int(self._program.ask(do="digest")["digest"])


class ForeignSender:
    """Writes into the receiver's memory."""

    def __init__(self, python: str, peer: Peer, num_bytes: int, address: str) -> None:
        self._program = _Program(python, peer, "send", num_bytes)
        self._place = json.loads(address)

    def send(self, prompts: int) -> Sent:
        with self._program.going():
            done = self._program.ask(do="send", prompts=prompts, **self._place)
        return Sent(done["seconds"], done["cpu_s"])

    def digest(self) -> int:
        with self._program.going():
            return int(self._program.ask(do="digest")["digest"])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
