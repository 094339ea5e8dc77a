"""The demo's tables, narrow enough for an 80-column terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.markup import escape
from rich.table import Table

from prfaas.cli.demo_client import Result
from prfaas.cli.demo_link import LinkAct, Phase


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt answered twice: prefilled beside decode, and in the other cluster."""

    local: Result
    remote: Result

    @property
    def as_asked(self) -> bool:
        """Both prefills really ran where they were forced to run."""
        return not _crossed(self.local) and _crossed(self.remote)

    @property
    def equal(self) -> bool:
        return self.as_asked and self.local.token_ids == self.remote.token_ids


def _crossed(result: Result) -> bool:
    return bool(result.account["prefill"]["cluster"] != result.account["decode"]["cluster"])


def _table(title: str, caption: str, first: str, *numbers: str) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.caption_justify = "left"
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def requests_table(results: Sequence[Result]) -> Table:
    """One row per request: where it was prefilled and decoded, what crossed, how long it took."""
    table = _table(
        "What happened to each request",
        "transfer: first KV byte to commit on the decode instance; it overlaps the prefill, which sends layer by "
        "layer.\n"
        "Cached tokens are not computed again, and what decode holds of them does not cross again",
        "prompt",
        "tokens\nin",
        "of them\ncached",
        "prefill→\ndecode",
        "KV\nMB",
        "prefill\nms",
        "transfer\nms",
        "TTFT\nms",
    )
    for result in results:
        account = result.account
        crossed = _crossed(result)
        path = f"{account['prefill']['cluster']}→{account['decode']['cluster']}"
        table.add_row(
            result.ask.label,
            f"{account['usage']['prompt_tokens']:,}",
            f"{account['usage']['cached_tokens']:,}",
            f"[bold cyan]{path}[/bold cyan]" if crossed else path,
            f"{account['kv']['bytes_wire'] / 1e6:.2f}",
            f"{account['prefill_ms']:.0f}",
            f"{account['kv']['transfer_ms']:.0f}",
            f"{account['ttft_ms']:.0f}",
        )
        if account.get("fallback"):
            table.add_row(f"  [red]fell back: {account['fallback']}[/red]")
    return table


def verification_table(pairs: Sequence[Pair]) -> Table:
    """One row per prompt: are the tokens the same wherever it was prefilled?"""
    table = _table(
        "The same prompts, prefilled in each datacenter",
        "temperature 0; both prefills were forced by the header x-prfaas-prefill",
        "prompt",
        "tokens in",
        "tokens compared",
        "equal",
    )
    for pair in pairs:
        verdict = "[green]yes[/green]" if pair.equal else "[red]NO[/red]"
        if not pair.as_asked:
            verdict = "[red]not where sent[/red]"
        table.add_row(
            pair.local.ask.label,
            f"{pair.local.account['usage']['prompt_tokens']:,}",
            str(len(pair.local.token_ids)),
            verdict,
        )
    return table


def link_table(act: LinkAct) -> Table:
    """One row per rate of the link: the threshold, and where prompts of each length were prefilled."""
    labels = list(dict.fromkeys(result.ask.label for result in act.before.results))
    table = _table(
        f"The link {act.link} gets slow",
        f"[red]The threshold did not follow: {escape(act.held)}[/red]" if act.held else _reasons(act),
        "link",
        "threshold",
        *(f"{label},\nto {_longest(act, label):,} tokens" for label in labels),
    )
    for phase in (act.before, act.after):
        places = (_places(phase, label) for label in labels)
        table.add_row(f"{phase.gbit_s:g} Gbit/s", f"{phase.threshold_tokens:,}", *places)
    return table


def _reasons(act: LinkAct) -> str:
    return f"before: {escape(act.before.reason)}\nthen: {escape(act.after.reason)}"


def _longest(act: LinkAct, label: str) -> int:
    both = (*act.before.results, *act.after.results)
    return max(int(result.account["usage"]["prompt_tokens"]) for result in both if result.ask.label == label)


def _places(phase: Phase, label: str) -> str:
    where = Counter(r.account["prefill"]["cluster"] for r in phase.results if r.ask.label == label)
    return ", ".join(f"{times} {cluster}" for cluster, times in where.most_common())
