"""`prfaas up`: a whole fleet in the foreground, its processes' logs on stderr."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prfaas.cli.fleet import Child, Fleet, process_specs
from prfaas.cli.supervised import Supervisor, stop_event
from prfaas.config.sections import FleetConfig


async def run_fleet(config: FleetConfig, path: Path, overrides: tuple[str, ...], log_level: str) -> int:
    """Returns the exit code: 0 after Ctrl-C or SIGTERM, 1 when the router or the last instance ended by itself."""
    console = Console(stderr=True)
    stop = stop_event(Supervisor(None))
    specs = process_specs(config, path, overrides, log_level)
    console.print(f"starting {len(specs)} processes; the first start of a model takes a few seconds")
    fleet = Fleet(specs, config.router.drain_s, on_ready=lambda c: _announce(console, c))
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(fleet))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        await starting
        console.print(_overview(config, fleet))
        return await watch(console, fleet, stop)


def _announce(console: Console, child: Child) -> None:
    where = ", ".join(f"{name} {address}" for name, address in child.addresses.items())
    console.print(f"[green]ready[/green] {child.spec.name} ({where})", highlight=False)


def _overview(config: FleetConfig, fleet: Fleet) -> Table:
    http = fleet.child("router").addresses["http"]
    table = Table(
        title=f"serving {config.model.name} at http://{http}/v1",
        caption=f"live page: http://{http}/ui (or `prfaas top`). Ctrl-C drains and stops",
    )
    for column in ("process", "role", "pid"):
        table.add_column(column)
    for child in fleet.children:
        table.add_row(child.spec.name, child.spec.kind, str(child.process.pid))
    return table


async def watch(console: Console, fleet: Fleet, stop: asyncio.Event) -> int:
    """A lost instance is a fleet's everyday life and only reported; without router or instances there is no fleet."""
    reported: set[str] = set()
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            exits = asyncio.create_task(fleet.next_exit(reported))
            await asyncio.wait({exits, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not exits.done():
                exits.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await exits
                break
            child = exits.result()
            reported.add(child.spec.name)
            console.print(f"[red]{child.spec.name} ended with code {child.process.returncode}[/red]", highlight=False)
            if child.spec.kind == "router" or not _instances(fleet) - reported:
                return 1
    finally:
        stopping.cancel()
    console.print("draining")
    return 0


def _instances(fleet: Fleet) -> set[str]:
    return {child.spec.name for child in fleet.children if child.spec.kind in ("prefill", "decode")}
