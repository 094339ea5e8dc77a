"""`prfaas link-probe`: measures a path to a running instance, and says in words what it carries. Knows no sockets."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from prfaas.cli.build_credentials import build_credentials
from prfaas.cli.link_probe_report import ProbeReport, show
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig, TransportSection, checked_address
from prfaas.control.credentials import Credentials
from prfaas.core.errors import ConfigError, WireError
from prfaas.core.model_files import read_config
from prfaas.core.shape import ModelShape, model_shape
from prfaas.telemetry.security_metrics import SecurityMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.congestion import LONG_PATH, SHORT_PATH, may_set
from prfaas.transport.probe import Probe, ProbeRun, ProbeTarget, Reached
from prfaas.transport.probe_advice import advise

MAX_STREAMS = 64
PLAIN_CALLER = Caller("link-probe", "this-cluster")


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What was asked for; `fleet` is None for a plain probe."""

    to: str
    proxy: str | None
    seconds: float
    streams: tuple[int, ...]
    fleet: FleetConfig | None
    name: str | None

    @classmethod
    def parsed(
        cls,
        to: str,
        config: Path | None,
        name: str | None,
        proxy: str | None,
        seconds: float,
        streams: str,
        *,
        plain: bool,
    ) -> Self:
        """Raises ConfigError for what does not fit together."""
        if plain == (config is not None) or (config is None) != (name is None):
            raise ConfigError("give either --plain, or --config FILE and --name INSTANCE")
        for option, address in (("--to", to), ("--proxy", proxy)):
            try:
                checked_address(address or "unused:1")
            except ValueError as error:
                raise ConfigError(f"{option}: {error}") from None
        return cls(to, proxy, seconds, _stream_counts(streams), load(config) if config else None, name)


def run_link_probe(options: ProbeOptions, *, json_output: bool) -> None:
    """Measures and prints. Raises ConfigError, PeerLostError, PeerRefusedError, WireError or what the receiver says."""
    caller, credentials, shape = _who(options)
    timeout_s = (options.fleet.transport if options.fleet else TransportSection()).connect_timeout_s
    target = ProbeTarget(options.to, options.proxy, caller, credentials, timeout_s)
    probe = Probe(target, time.monotonic)
    reached = _reached(probe, options.to)
    _warn_of_another_way(options, caller.cluster, reached.welcome.cluster)
    taken = [n for n in options.streams if n <= reached.welcome.max_streams]
    if not taken:
        raise ConfigError(f"--streams: {options.to} takes at most {reached.welcome.max_streams} connections")
    runs = _measure(probe, taken, options.seconds)
    idle_rtt_s = reached.greeting_rtt_s if options.proxy else reached.min_rtt_s
    model = options.fleet.model.name if options.fleet else None
    advice = advise(runs, idle_rtt_s, shape)
    # What instances choose by themselves need not be written down.
    automatic = advice.congestion_control == runs[0].congestion_control
    report = ProbeReport.of(options.to, caller, reached, runs, advice, model, automatic=automatic)
    if json_output:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        show(report, Console())


def _reached(probe: Probe, to: str) -> Reached:
    try:
        return probe.reach()
    except WireError as error:
        raise WireError(
            f"{to} does not answer as a data port of this version: {error}; GET /fleet of the router names data ports"
        ) from error


def _warn_of_another_way(options: ProbeOptions, source: str, target: str) -> None:
    """Where the file leads KV through a proxy, a direct path tells nothing of it."""
    link = options.fleet.link(source, target) if options.fleet else None
    way = link.dial_through if link else None
    if way != options.proxy:
        instead = f"--proxy {way}" if way else "no --proxy"
        Console(stderr=True).print(
            f"This is not the way that KV takes: by the fleet file, give {instead} from {source} to {target}.",
            highlight=False,
            soft_wrap=True,
        )


def _measure(probe: Probe, streams: Sequence[int], seconds: float) -> list[ProbeRun]:
    """With each number of connections; then the best of them with the other congestion control, if we may."""
    chosen = probe.congestion_control()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def measured(count: int, congestion_control: str | None) -> ProbeRun:
            task = progress.add_task(f"{count} streams, {congestion_control or 'system'}", total=seconds, rate="")

            def tell(elapsed_s: float, acknowledged_bytes: int) -> None:
                rate = f"{acknowledged_bytes * 8e-9 / elapsed_s:.2f} Gbit/s" if elapsed_s > 0 else ""
                progress.update(task, completed=elapsed_s, rate=rate)

            return probe.measure(count, seconds, congestion_control, tell)

        runs = [measured(count, chosen) for count in streams]
        best = advise(runs, None, None).streams
        others = {SHORT_PATH, LONG_PATH} - {runs[0].congestion_control}
        return runs + [measured(best, other) for other in sorted(others) if may_set(other)]


def _who(options: ProbeOptions) -> tuple[Caller, Credentials | None, ModelShape | None]:
    if options.fleet is None or options.name is None:
        return PLAIN_CALLER, None, None
    fleet = options.fleet
    homes = {instance.name: cluster.name for cluster in fleet.clusters for instance in cluster.instances}
    if options.name not in homes:
        raise ConfigError(f"--name {options.name}: the file has {', '.join(sorted(homes)) or 'no instances'}")
    cluster = homes[options.name]
    credentials = build_credentials(fleet, options.name, cluster, SecurityMetrics(CollectorRegistry()))
    shape = model_shape(read_config(fleet.model.path), fleet.model.dtype)
    return Caller(options.name, cluster), credentials, shape


def _stream_counts(text: str) -> tuple[int, ...]:
    counts = []
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= MAX_STREAMS:
            raise ConfigError(f"--streams {text}: give numbers from 1 to {MAX_STREAMS}, with commas between them")
        counts.append(int(part))
    return tuple(sorted(set(counts)))
