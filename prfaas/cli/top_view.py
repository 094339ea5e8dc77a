"""The fleet on a terminal: what `/ui` shows, as text. Pure."""

from rich.console import ConsoleDimensions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from prfaas.cli.fleet_stream import Seen
from prfaas.cli.top_text import NONE, bar, bits, percent, plain, seconds, spark, tokens
from prfaas.gateway.fleet_reply import FleetReply, InstanceReply, PlacementReply

SPARK_WIDTH = 30
WIDE_COLUMNS = 110
"""Fewer columns show the most important figures only."""
WIDE_BAR, NARROW_BAR = 10, 4
FIXED_LINES = 14
"""All but instances, links and placements."""
STATE_STYLES = {"up": "green", "draining": "yellow", "converting": "yellow", "stale": "red"}
DECISION_STYLES = {"remote": "cyan", "local": "yellow", "decode": "magenta"}


def view(seen: Seen, size: ConsoleDimensions, trouble: str = "") -> RenderableType:
    """Placements get the lines that the rest leaves. `trouble`: why this is not live."""
    fleet = seen.fleet
    left = max(3, size.height - FIXED_LINES - len(fleet.instances) - len(fleet.paths))
    wide = size.width >= WIDE_COLUMNS
    parts = _instances(fleet, wide=wide), _links(seen, wide=wide), _threshold(seen), _placed(fleet, left)
    return Group(_title(fleet, trouble), _figures(fleet), *parts)


def _title(fleet: FleetReply, trouble: str) -> Text:
    state = (trouble, "bold red") if trouble else ("draining", "yellow") if fleet.draining else ("live", "green")
    worker = "" if fleet.worker is None else f"  worker {fleet.worker} of {fleet.workers}"
    facts = f"  {plain(fleet.model)}  policy {fleet.policy}  {len(fleet.instances)} instances{worker}  "
    return Text.assemble(("prfaas", "bold"), facts, state)


def _figures(fleet: FleetReply) -> Text:
    latest, admission = fleet.latest, fleet.admission
    waiting = admission.waiting_interactive + admission.waiting_batch
    parts = [
        f"{latest.requests_s:.2f} requests/s" if latest else "",
        f"offloaded {percent(latest.offloaded_share)}" if latest else "",
        f"TTFT p50 {seconds(latest.ttft_p50_s)}, p90 {seconds(latest.ttft_p90_s)}" if latest else "",
        f"hits {percent(fleet.hits.realised)} (predicted {percent(fleet.hits.predicted)})",
        f"{admission.outstanding} under way",
        f"{waiting} waiting",
        f"{sum(admission.refused.values())} refused",
    ]
    return Text(" · ".join(part for part in parts if part), style="default")


def _instances(fleet: FleetReply, *, wide: bool) -> Table:
    more = (">tokens", ">hits", ">prefill tok/s") if wide else ()
    table = _table("instance", "role", "state", ">queue", "running", "pages", *more)
    bar_width = WIDE_BAR if wide else NARROW_BAR
    clusters = {cluster.name: i for i, cluster in enumerate(fleet.clusters)}
    for one in sorted(fleet.instances, key=lambda i: (clusters.get(i.cluster, 0), i.name)):
        load, pages = one.load, max(1, one.load.pages_total)
        table.add_row(
            f"{plain(one.cluster)}/{plain(one.name)}",
            f"{one.role} → {one.converting_to}" if one.converting_to else one.role,
            _state(one),
            seconds(one.queue.seconds),
            _beside(
                load.running_requests / max(1, one.slots), f"{load.running_requests}/{one.slots or NONE}", bar_width
            ),
            _beside(load.pages_used / pages, percent(load.pages_used / pages), bar_width),
            *(_more(one) if wide else ()),
        )
    return table


def _more(one: InstanceReply) -> tuple[str, str, str]:
    speed = one.rates.prefill_tokens_per_s if one.rates else None
    return tokens(one.queue.tokens), percent(one.hit_rate), NONE if speed is None else tokens(speed)


def _state(instance: InstanceReply) -> Text:
    state = "converting" if instance.converting_to else instance.state
    silent = f" {instance.age_s:.0f} s" if state == "stale" else ""
    return Text(state + silent, style=STATE_STYLES[state])


def _links(seen: Seen, *, wide: bool) -> Table:
    more = (">RTT", ">last bytes", "in use, 10 min") if wide else ()
    table = _table("link", "in use", ">delivers", ">queued", *more)
    for path in seen.fleet.paths:
        ends = path.source, path.target
        used = [next((x.utilisation for x in s.links if (x.source, x.target) == ends), None) for s in seen.history]
        age = "not measured" if path.age_s is None else f"{path.age_s:.0f} s ago"
        table.add_row(
            f"{plain(path.source)} → {plain(path.target)}",
            _beside(path.utilisation, percent(path.utilisation), WIDE_BAR),
            bits(path.bytes_per_s),
            seconds(path.queued_s),
            *((seconds(path.rtt_s), age, Text(spark(used, 1.0, SPARK_WIDTH), style="cyan")) if wide else ()),
        )
    return table


def _threshold(seen: Seen) -> Text:
    fleet, loops = seen.fleet, seen.fleet.loops
    off = loops.threshold_off_because if loops else "this router has no loops"
    values = [sample.threshold_tokens for sample in seen.history]
    return Text.assemble(
        ("\nthreshold ", "bright_black"),
        (f"{fleet.threshold_tokens:,} tokens ", "bold"),
        (spark(values, max(values, default=0), SPARK_WIDTH), "cyan"),
        f"  {plain(loops.threshold_reason) if loops else ''}\n",
        (f"held: {plain(off)}" if off else "follows load and link", "yellow" if off else "green"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _placed(fleet: FleetReply, rows: int) -> Table:
    table = _table("request", ">prompt", ">cached", "prefill", ">expected", ">TTFT")
    table.expand = True
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in fleet.placements[: -rows - 1 : -1]:
        table.add_row(
            plain(row.request),
            tokens(row.prompt_tokens),
            tokens(row.cached_tokens),
            Text.assemble((f"{row.decision:<6} ", DECISION_STYLES[row.decision]), plain(row.prefill)),
            seconds(row.expected_ttft_s),
            seconds(row.ttft_s),
            _why(row),
        )
    return table


def _why(row: PlacementReply) -> Text:
    code = f"{row.outcome}: {plain(row.code)}; " if row.code else ""
    return Text.assemble((code, "red"), plain(row.reason), no_wrap=True, overflow="ellipsis")


def _beside(share: float, text: str, width: int) -> Text:
    return Text.assemble(bar(share, width), f" {text}")


def _table(*columns: str) -> Table:
    """`>`: numbers, to the right."""
    table = Table(box=None, pad_edge=False, header_style="bright_black", padding=(0, 2, 0, 0), expand=False)
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return table
