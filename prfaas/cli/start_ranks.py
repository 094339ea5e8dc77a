"""The ranks above 0 of a tensor-parallel engine, as children of rank 0's process."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

from prfaas.core.errors import EngineError, from_code
from prfaas.engine.settings import EngineSettings, RankSettings
from prfaas.models.distributed import Distributed, join_group, leave_group, meeting_place

log = logging.getLogger(__name__)

INTERFACE_VARIABLE, LOOPBACK = "GLOO_SOCKET_IFNAME", "lo"
COMMAND = (sys.executable, "-P", "-m", "prfaas.cli.rank_process")


class Followers:
    """Started at once, so that all ranks load side by side; `meet` waits for them."""

    def __init__(self, settings: EngineSettings) -> None:
        os.environ[INTERFACE_VARIABLE] = LOOPBACK
        self.ranks = Distributed(0, settings.engine.tensor_parallel)
        # A file without a name: nothing is left of it, however we end. Open until then, as the group returns to it.
        self._meeting_fd = os.memfd_create("prfaas-meeting", os.MFD_CLOEXEC)
        self._stopped = False
        self._processes = [self._start(settings, rank) for rank in range(1, self.ranks.size)]

    def _start(self, settings: EngineSettings, rank: int) -> "subprocess.Popen[bytes]":
        # Gloo would look for the address of this machine's name, which need not lead anywhere.
        environment = {**os.environ, INTERFACE_VARIABLE: LOOPBACK}
        process = subprocess.Popen(  # noqa: S603 - our own program
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(settings.arena_fd, self._meeting_fd),
            env=environment,
        )
        assert process.stdin is not None
        line = RankSettings(engine=settings, rank=rank, meeting_fd=self._meeting_fd).model_dump_json()
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return process

    def meet(self) -> None:
        """Returns when all ranks have loaded their slices and can exchange. Raises what kept one of them from it."""
        for rank, process in enumerate(self._processes, start=1):
            assert process.stdout is not None
            answer = process.stdout.readline().decode()
            if not answer:
                raise EngineError(f"rank {rank} ended with code {process.wait()} before it was ready")
            if answer.strip():
                code, _, message = answer.strip().partition(" ")
                raise from_code(code, message)
        join_group(self.ranks, meeting_place(self._meeting_fd))
        for process in self._processes:
            threading.Thread(target=self._watch, args=(process,), name="rank", daemon=True).start()

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Without one of its ranks the engine would wait for ever."""
        code = process.wait()
        if not self._stopped:
            log.critical("a rank of this engine ended with code %d", code)
            os._exit(1)

    def stop(self, end_following: Callable[[], None]) -> None:
        """Ends the group, for which the leader must let its followers go."""
        self._stopped = True
        end_following()
        leave_group()
        for process in self._processes:
            process.wait()
        self.close()

    def close(self) -> None:
        """Kills what still runs; once is enough, more does no harm."""
        self._stopped = True
        for process in self._processes:
            process.kill()
            process.wait()
