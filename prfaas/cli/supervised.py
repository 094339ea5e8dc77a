"""A process's life: readiness told to a parent, signals turned into one stop event, errors into one line.

A parent that supervises us holds one end of a socket pair. We write one JSON line into it (ready, or why not), and its
end of file means that the parent is gone, however it died.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The parent's end, if there is a parent. `fd` is None for a process that a person started."""

    fd: int | None

    def ready(self, addresses: dict[str, str]) -> None:
        """Says that traffic may come."""
        self._tell({"ready": addresses})

    def failed(self, message: str) -> None:
        """Says why there will never be traffic."""
        self._tell({"error": message})

    def _tell(self, message: dict[str, Any]) -> None:
        if self.fd is not None:
            # A parent that is gone is noticed by its end of file, not here.
            with contextlib.suppress(OSError):
                os.write(self.fd, json.dumps(message).encode() + b"\n")


def stop_event(supervisor: Supervisor) -> asyncio.Event:
    """Set by SIGTERM, SIGINT or the parent's end; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask(reason: str) -> None:
        if stop.is_set():
            log.warning("%s again: ending without waiting", reason)
            os._exit(1)
        log.info("%s: draining", reason)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number.name)
    if supervisor.fd is not None:
        fd = supervisor.fd

        def parent_spoke() -> None:
            if not os.read(fd, 64):
                loop.remove_reader(fd)
                if not stop.is_set():
                    ask("the parent process is gone")

        loop.add_reader(fd, parent_spoke)
    return stop
