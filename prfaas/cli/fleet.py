"""A whole fleet as child processes on this machine: started in order, watched, stopped in order."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prfaas.config.sections import FleetConfig
from prfaas.core.errors import ConfigError, EngineError

KILL_AFTER_S = 10.0
"""What a process may take beyond its own drain time before it is killed."""
LOG_TAIL_LINES = 5


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of the fleet: what it is called, and what to run after `prfaas`."""

    name: str
    kind: str
    arguments: tuple[str, ...]

    @property
    def log_name(self) -> str:
        return f"{self.name.replace(' ', '-')}.log"


def process_specs(
    config: FleetConfig, config_path: Path, overrides: tuple[str, ...], log_level: str
) -> list[ProcessSpec]:
    """Relays and the router first, instances after them, as they must be started."""
    common = ("--config", str(config_path), "--log-level", log_level, *(x for o in overrides for x in ("--set", o)))
    relays = [
        ProcessSpec(f"link {link.name}", "relay", ("relay", "--link", link.name, *common))
        for link in config.links
        if link.relay
    ]
    router = ProcessSpec("router", "router", ("serve", "--role", "router", *common))
    instances = [
        ProcessSpec(
            instance.name,
            instance.role,
            ("serve", "--role", instance.role, "--cluster", cluster.name, "--name", instance.name, *common),
        )
        for cluster in config.clusters
        for instance in cluster.instances
    ]
    return [*relays, router, *instances]


class Child:
    """One running process and our end of its supervision socket."""

    def __init__(
        self, spec: ProcessSpec, process: asyncio.subprocess.Process, line: socket.socket, log_file: Path | None
    ) -> None:
        self.spec = spec
        self.process = process
        self._log_file = log_file
        self.addresses: dict[str, str] = {}
        self._line = line

    @classmethod
    async def start(cls, spec: ProcessSpec, log_dir: Path | None) -> "Child":
        """Its log goes to `log_dir`/NAME.log, or to our stderr."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # -P: nothing in the user's working directory may shadow a module of ours.
        command = [sys.executable, "-P", "-m", "prfaas", *spec.arguments, "--supervisor-fd", str(theirs.fileno())]
        log_file = log_dir / spec.log_name if log_dir else None
        log = log_file.open("ab") if log_file else None
        try:
            # A session of its own: Ctrl-C reaches us alone, and we decide the order of stopping.
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=(theirs.fileno(),), stdout=log, stderr=log, start_new_session=True
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if log:
                log.close()
        return cls(spec, process, ours, log_file)

    async def ready(self) -> None:
        """Raises ConfigError with the process's own words if it ends before it is ready."""
        loop = asyncio.get_running_loop()
        data = b""
        while not data.endswith(b"\n"):
            more = await loop.sock_recv(self._line, 65536)
            if not more:
                code = await self.process.wait()
                raise EngineError(f"{self.spec.name} ended with code {code} before it was ready{self.last_words()}")
            data += more
        message = json.loads(data)
        if "error" in message:
            await self.process.wait()
            raise ConfigError(f"{self.spec.name}: {message['error']}")
        self.addresses = message["ready"]

    def last_words(self) -> str:
        """The end of its log, if that is not on the terminal anyway."""
        if self._log_file is None:
            return ""
        lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "; its log ends with:\n" + "\n".join(lines)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after `timeout_s`."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self._line.close()


class Fleet:
    """All processes of a fleet file; `async with` starts and stops them."""

    def __init__(
        self,
        specs: list[ProcessSpec],
        drain_s: float,
        log_dir: Path | None = None,
        on_ready: Callable[[Child], None] | None = None,
    ) -> None:
        self._specs = specs
        self._drain_s = drain_s
        self._log_dir = log_dir
        self._on_ready = on_ready
        self.children: list[Child] = []

    def child(self, name: str) -> Child:
        return next(c for c in self.children if c.spec.name == name)

    async def __aenter__(self) -> Self:
        if self._log_dir:
            self._fresh_logs(self._log_dir)
        try:
            # All at once: an instance loads its model while the router comes up, and registers when it can.
            for spec in self._specs:
                self.children.append(await Child.start(spec, self._log_dir))
            await self._all_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def next_exit(self, known: Collection[str]) -> Child:
        """Waits until a process ends by itself that is not in `known`; never returns if there is none left."""
        waits = {asyncio.create_task(c.process.wait()): c for c in self.children if c.spec.name not in known}
        if not waits:
            await asyncio.Event().wait()
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """The router first, so that nothing new arrives; then instances; relays last, so that goodbyes get through."""
        order = {"router": 0, "relay": 2}
        for rank in range(3):
            stopping = [c for c in self.children if order.get(c.spec.kind, 1) == rank]
            await asyncio.gather(*(c.stop(self._drain_s + KILL_AFTER_S) for c in stopping))
        self.children = []

    def _fresh_logs(self, log_dir: Path) -> None:
        """What an earlier fleet said would only confuse."""
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            for spec in self._specs:
                (log_dir / spec.log_name).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write logs to {log_dir}: {error.strerror}") from error

    async def _all_ready(self) -> None:
        """Raises the first failure, also of a process that was ready and died while others still start."""
        starting = {child.spec.name: asyncio.create_task(self._await_ready(child)) for child in self.children}
        dying = asyncio.create_task(self.next_exit(()))
        try:
            while left := {task for task in starting.values() if not task.done()}:
                await asyncio.wait({*left, dying}, return_when=asyncio.FIRST_COMPLETED)
                if dying.done():
                    child = dying.result()
                    await starting[child.spec.name]
                    raise EngineError(f"{child.spec.name} ended while others were starting{child.last_words()}")
                for task in left:
                    if task.done():
                        task.result()
        finally:
            dying.cancel()
            for task in starting.values():
                task.cancel()

    async def _await_ready(self, child: Child) -> None:
        await child.ready()
        if self._on_ready:
            self._on_ready(child)
