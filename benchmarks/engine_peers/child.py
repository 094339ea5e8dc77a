"""Our end of a peer's line: a process that is started, asked and ended. Knows nothing of what it computes."""

import asyncio
import contextlib
import json
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
END_WITHIN_S = 20.0


class PeerError(Exception):
    """A peer does not do what it was asked for; the words are its own."""


class Child:
    """A module of this package in a process of its own, which waits without computing unless it is asked."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(
        cls, python: str, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> "Child":
        """Waits until it is ready. Raises PeerError when it ends instead."""
        with log.open("wb") as file:
            # A session of its own: what it starts can be ended with it, and Ctrl-C reaches us alone.
            process = await asyncio.create_subprocess_exec(
                python,
                *("-m", f"{__package__}.{module}", *arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        child = cls(process, log)
        try:
            await child._hear()
        except BaseException:
            await child.close()
            raise
        return child

    async def ask(self, question: Mapping[str, Any]) -> dict[str, float]:
        """Raises PeerError when the process ends instead of answering."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it has ended, and its log says why
            await self._process.stdin.drain()
        return await self._hear()

    async def close(self) -> None:
        """Ends the process and whatever it started; once is enough, more does no harm."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _hear(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise PeerError(what_went_wrong(self._log.read_text(encoding="utf-8", errors="replace")))
        heard: dict[str, float] = json.loads(line)
        return heard


def what_went_wrong(log: str) -> str:
    """The first error that a log names: later ones tend to be of those who waited for the first."""
    named = re.search(r"\b[A-Z]\w*(?:Error|Exception)\b.*", log)
    lines = log.strip().splitlines()
    return named[0] if named else lines[-1] if lines else "it ended without a word"
