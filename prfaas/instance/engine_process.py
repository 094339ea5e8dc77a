"""The engine as a child process: started, watched, ended. Knows nothing of what it computes.

Its standard input is our hold on it: one line of settings, and an end of file when we are gone, however we went.
"""

import asyncio
import logging
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from prfaas.engine.settings import EngineSettings

log = logging.getLogger(__name__)


class EngineProcess:
    """An `EngineHost`. Its log goes where ours goes."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], settings: EngineSettings) -> "EngineProcess":
        """Runs `command`, which inherits the descriptors that `settings` name."""
        # A session of its own: Ctrl-C reaches us alone, and the engine goes on until we have drained.
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, pass_fds=(settings.arena_fd, settings.link_fd), start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(settings.model_dump_json().encode() + b"\n")
        log.info("the engine is process %d", process.pid)
        return cls(process)

    async def ended(self) -> str:
        """Returns when the process has ended, with how."""
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"the engine process {self._process.pid} {how}"

    async def stop(self, within_s: float) -> None:
        """Waits for the end of a process that has been told to stop, and kills it if that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            log.warning("the engine did not end within %g s and is killed", within_s)
            self._process.kill()
            await self._process.wait()
