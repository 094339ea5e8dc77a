"""Several router processes on one HTTP port: started together, started again when one dies, stopped together.

Knows nothing of what a router does. Workers share nothing but the port.
"""

import asyncio
import contextlib
import json
import logging
from pathlib import Path

from prfaas.cli.fleet import KILL_AFTER_S, Child, ProcessSpec
from prfaas.config.sections import FleetConfig, RouterSection, counted_up, split_address
from prfaas.control.listen import reserved
from prfaas.core.errors import PrfaasError

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between a worker's death and its next start; it doubles as long as the worker dies soon again."""
STEADY_S = 60.0
"""A worker that lived for so long did not die of its start."""

log = logging.getLogger(__name__)


def worker_specs(
    config: FleetConfig, path: Path, overrides: tuple[str, ...], log_level: str, http: str
) -> list[ProcessSpec]:
    """One process for each worker. `http`: the address that they share, its port a real one."""
    router = config.router
    count = range(router.workers)
    controls = [counted_up(router.control, i) for i in count]
    siblings = json.dumps([_dialled(router, control) for control in controls])
    common = ["serve", "--role", "router", "--config", str(path), "--log-level", log_level]
    for override in (*overrides, "router.workers=1", f"router.http={json.dumps(http)}", f"router.siblings={siblings}"):
        common += "--set", override
    return [
        ProcessSpec(
            f"router/{i}",
            "router",
            (
                *common,
                *("--set", f"router.control={json.dumps(controls[i])}"),
                *("--set", f"router.worker_http={json.dumps(counted_up(router.worker_http, i))}"),
                *("--worker", str(i)),
            ),
        )
        for i in count
    ]


class Workers:
    """A service of `prfaas serve`."""

    def __init__(self, config: FleetConfig, path: Path, overrides: tuple[str, ...], log_level: str) -> None:
        """Takes the HTTP port. Raises ConfigError where it is not to be had."""
        self._port = reserved(config.router.http, "router.http")
        host, _ = split_address(config.router.http)
        self._http = f"{f'[{host}]' if ':' in host else host}:{self._port.getsockname()[1]}"
        self._specs = worker_specs(config, path, overrides, log_level, self._http)
        self._drain_s = config.router.drain_s
        self._children: dict[str, Child] = {}

    @property
    def addresses(self) -> dict[str, str]:
        """What clients dial, what instances dial first, and where each worker answers alone, in their order."""
        children = [self._children[spec.name] for spec in self._specs if spec.name in self._children]
        control = children[0].addresses.get("control", "") if children else ""
        own = (child.addresses.get("worker", "") for child in children)
        return {"http": self._http, "control": control, "workers": " ".join(own)}

    async def start(self) -> None:
        """Returns when all are ready. Raises what kept one from it, after it stopped the others."""
        starting = [asyncio.create_task(self._begin(spec)) for spec in self._specs]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.stop()
            raise

    async def watch(self) -> None:
        """Never returns; starts again who dies, and says so."""
        async with asyncio.TaskGroup() as group:
            for spec in self._specs:
                group.create_task(self._keep(spec))

    async def stop(self) -> None:
        """All drain at the same time."""
        children, self._children = list(self._children.values()), {}
        await asyncio.gather(*(child.stop(self._drain_s + KILL_AFTER_S / 2) for child in children))
        self._port.close()

    async def _begin(self, spec: ProcessSpec) -> None:
        self._children[spec.name] = child = await Child.start(spec, None)
        await child.ready()

    async def _keep(self, spec: ProcessSpec) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            since_s = loop.time()
            child = self._children[spec.name]
            code = await child.process.wait()
            await child.stop(0.0)
            if loop.time() - since_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error("%s ended with code %d; it is started again in %g s", spec.name, code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            await self._begin_again(spec)

    async def _begin_again(self, spec: ProcessSpec) -> None:
        try:
            await self._begin(spec)
        except (PrfaasError, OSError) as error:
            log.error("%s cannot be started again: %s", spec.name, error)
            # It may live, without being of use.
            with contextlib.suppress(ProcessLookupError):
                await self._children[spec.name].stop(0.0)
        else:
            log.info("%s serves again", spec.name)


def _dialled(router: RouterSection, control: str) -> str:
    return router.model_copy(update={"control": control}).control_dial
