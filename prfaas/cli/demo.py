"""`prfaas demo`: a two-datacenter fleet on this machine, real requests to its OpenAI endpoint, and what they did."""

import dataclasses
import json
import os
import sys
import sysconfig
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import prfaas
from prfaas.cli.demo_client import Ask, DemoClient, Result
from prfaas.cli.demo_link import LinkAct, SlowLink, slowed_link
from prfaas.cli.demo_prompts import demo_asks, next_turn
from prfaas.cli.demo_report import Pair, link_table, requests_table, verification_table
from prfaas.cli.fleet import Fleet, process_specs
from prfaas.cli.fleet_roles import FleetStatus
from prfaas.cli.supervised import Supervisor, stop_event
from prfaas.cli.up import watch
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig
from prfaas.core.errors import ConfigError

CONCURRENCY = 4


@dataclass(slots=True)
class _Report:
    results: list[Result] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    link: LinkAct | None = None

    @property
    def mismatched(self) -> int:
        return sum(not pair.equal for pair in self.pairs)

    def as_json(self, wall_s: float) -> str:
        everything = [*self.results, *(r for p in self.pairs for r in (p.local, p.remote))]
        return json.dumps(
            {
                "requests": [r.account for r in everything],
                "verified": len(self.pairs) - self.mismatched,
                "mismatched": self.mismatched,
                "link": self.link and self.link.as_json(),
                "wall_s": round(wall_s, 3),
            }
        )


async def run_demo(
    config_path: Path | None, overrides: tuple[str, ...], *, verify: bool, json_output: bool, keep: bool
) -> int:
    """Returns the exit code: 0, or 1 when a prompt's two answers differed, or a fleet that was kept ended by itself."""
    # In JSON mode stdout is for the object alone; what people look at goes to stderr.
    console = Console(stderr=json_output)
    started = time.monotonic()
    path, defaults = _fleet_file(config_path)
    overrides = (*defaults, *overrides)
    config = load(path, overrides)
    _write_model(config, console)
    log_dir = _log_dir(config)
    specs = process_specs(config, path, overrides, "info")
    async with AsyncExitStack() as stack:
        with _progress(console) as progress:
            waiting = {spec.name: progress.add_task(f"starting {spec.kind} [bold]{spec.name}[/bold]") for spec in specs}
            fleet = Fleet(specs, config.router.drain_s, log_dir, lambda c: progress.remove_task(waiting[c.spec.name]))
            await stack.enter_async_context(fleet)
        http = fleet.child("router").addresses["http"]
        console.print(_overview(config, http, time.monotonic() - started, log_dir), highlight=False)
        async with DemoClient(http, config.model.name) as client:
            asks = demo_asks()
            report = await _talk(client, config, asks, console)
            report.link = await _slow_link(client, config, http, console)
            if verify:
                report.pairs = await _verify(client, asks, console)
                console.print(verification_table(report.pairs))
        kept = await _keep(fleet, http, console) if keep else 0
    wall_s = time.monotonic() - started
    console.print(f"Stopped cleanly after {wall_s:.1f} s.", highlight=False)
    if json_output:
        sys.stdout.write(report.as_json(wall_s) + "\n")
    return 1 if report.mismatched else kept


def _overview(config: FleetConfig, http: str, seconds: float, log_dir: Path) -> str:
    """Who is running, in a few lines."""
    lines = [
        f"[bold]A fleet of {sum(len(c.instances) for c in config.clusters)} instances is up in {seconds:.1f} s[/bold]"
    ]
    for cluster in config.clusters:
        names = ", ".join(f"{i.name} ({i.role})" for i in cluster.instances)
        lines.append(f"  datacenter [bold]{cluster.name}[/bold]: {names}")
    for link in config.links:
        how = "emulated, TCP" if link.relay else "TCP"
        lines.append(
            f"  link {' ↔ '.join(link.between)}: {link.gbit_s:g} Gbit/s, {link.rtt_ms:g} ms round trip ({how})"
        )
    lines.append(f"  endpoint http://{http}/v1, model {config.model.name}, logs in {_short(log_dir)}")
    lines.append(f"  live page http://{http}/ui, in a terminal `prfaas top --url {http}`")
    return "\n".join(lines)


def _log_dir(config: FleetConfig) -> Path:
    """Beside the model, where that can be written."""
    beside = config.model.path.parent
    return beside / "logs" if os.access(beside, os.W_OK) else Path(tempfile.mkdtemp(prefix="prfaas-logs-"))


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


async def _talk(client: DemoClient, config: FleetConfig, asks: list[Ask], console: Console) -> _Report:
    report = _Report()
    console.print(
        f"\n[bold]Asking {len(asks) + 1} questions[/bold]; prompts with more than "
        f"{config.router.threshold_tokens:,} uncached tokens are prefilled in the other datacenter.\n"
        "The weights are random, so the words mean nothing:\n",
        highlight=False,
    )
    report.results.append(await client.stream(asks[0], lambda piece: _write(console, piece)))
    console.print("\n")
    with _progress(console) as progress:
        task = progress.add_task("waiting for answers")
        report.results += await client.ask_all(asks[1:], CONCURRENCY, lambda _: progress.advance(task))
        report.results.append(await client.ask(next_turn(asks[0], report.results[0].text)))
    console.print(requests_table(report.results))
    return report


async def _verify(client: DemoClient, asks: list[Ask], console: Console) -> list[Pair]:
    # With a salt for each, so that nothing is cached and all are computed.
    both = [
        dataclasses.replace(ask, prefill=where, salt=f"{where}: {ask.label}")
        for ask in asks
        for where in ("local", "remote")
    ]
    with _progress(console) as progress:
        task = progress.add_task(f"asking {len(asks)} prompts twice, prefilled here and there")
        results = await client.ask_all(both, CONCURRENCY, lambda _: progress.advance(task))
    return [Pair(local, remote) for local, remote in zip(results[::2], results[1::2], strict=True)]


async def _slow_link(client: DemoClient, config: FleetConfig, http: str, console: Console) -> LinkAct | None:
    link = slowed_link(config)
    if isinstance(link, str):
        console.print(f"\nNo link gets slow: {link}.", highlight=False)
        return None
    console.print(
        f"\n[bold]Now the link {link.name} gets slow[/bold], under prompts of three lengths\n", highlight=False
    )
    with _progress(console) as progress:
        task = progress.add_task("")
        act = await SlowLink(
            client, FleetStatus(http), link, lambda what: progress.update(task, description=what)
        ).play()
    console.print(link_table(act))
    return act


async def _keep(fleet: Fleet, http: str, console: Console) -> int:
    """Until Ctrl-C, or until there is no fleet left."""
    stop = stop_event(Supervisor(None))
    console.print(f"\nKept: live page http://{http}/ui, endpoint http://{http}/v1. Ctrl-C stops it", highlight=False)
    return await watch(console, fleet, stop)


def _write(console: Console, piece: str) -> None:
    console.print(piece, end="", markup=False, highlight=False, style="dim")


def _progress(console: Console) -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)


def _fleet_file(given: Path | None) -> tuple[Path, tuple[str, ...]]:
    """The demo's fleet file: the checkout's, or the installed one with its model in the user's cache."""
    if given is not None:
        return given, ()
    checkout = Path(prfaas.__file__).parent.parent / "configs" / "demo.yaml"
    if checkout.exists():
        return checkout, ()
    installed = Path(sysconfig.get_path("data")) / "share" / "prfaas" / "configs" / "demo.yaml"
    if not installed.exists():
        raise ConfigError(f"the demo's fleet file is neither at {checkout} nor at {installed}; name one with --config")
    return installed, (f"model.path={Path.home() / '.cache' / 'prfaas' / 'demo-model'}",)


def _write_model(config: FleetConfig, console: Console) -> None:
    if config.model.path.exists():
        return
    from prfaas.models.demo_model import write_demo_model

    with _progress(console) as progress:
        progress.add_task("writing a small model with random weights (once)")
        write_demo_model(config.model.path)
    console.print(f"Wrote a small Kimi Linear model with random weights to {_short(config.model.path)}")
