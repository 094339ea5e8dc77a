"""Processes that are measured: started, asked until they answer, ended with all that they started."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.gateway.http import AnswerError, Connection, post

ROOT = Path(__file__).parents[2]
END_WITHIN_S = 10.0
READY_WITHIN_S = 60.0
POLL_S = 0.1
CHATS = "/v1/chat/completions"


class ServerError(Exception):
    """A process does not serve; the words are the last ones of its log."""


class Server:
    """A process that serves chats at `url`, or something else that another one needs."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
        self._process = process
        self._log = log
        self.url = url

    @classmethod
    def start(cls, command: Sequence[str], url: str, log: Path) -> Self:
        """Its output goes to the file `log`. Raises ServerError for a program that is not there."""
        with log.open("wb") as file:
            try:
                # A session of its own: what it starts can be ended with it, and Ctrl-C reaches us alone.
                process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, start_new_session=True)
            except OSError as error:
                raise ServerError(f"{command[0]}: {error}") from error
        return cls(process, url, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def chats(self) -> str:
        """Where chats are posted."""
        return self.url + CHATS

    async def answers(self, body: bytes) -> None:
        """Waits until a chat is answered. Raises ServerError when that takes too long, or the process has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN_S):
                while self._process.poll() is None:
                    if await self._answered(body):
                        return
                    await asyncio.sleep(POLL_S)
        words = self._log.read_text(encoding="utf-8", errors="replace").strip()[-500:]
        raise ServerError(words or "it does not answer")

    async def _answered(self, body: bytes) -> bool:
        try:
            connection = await Connection.to(self.url)
        except OSError:
            return False
        try:
            await connection.ask(post(self.chats, body))
        except AnswerError:
            return False
        finally:
            connection.close()
        return True

    def close(self) -> None:
        """Ends the process and what it started."""
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
