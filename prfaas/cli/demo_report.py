"""The demo's tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from prfaas.cli.demo_client import Result


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


def requests_table(results: Sequence[Result]) -> Table:
    """One row per request: where it was prefilled, what crossed, how long it took."""
    table = Table(title="what happened to each request")
    for heading, justify in (
        ("prompt", "left"),
        ("prompt tokens", "right"),
        ("prefilled by", "left"),
        ("KV", "right"),
        ("transfer", "right"),
        ("prefill", "right"),
        ("TTFT", "right"),
        ("tokens", "right"),
    ):
        table.add_column(heading, justify="left" if justify == "left" else "right")
    for r in results:
        a = r.account
        where = f"{a['prefill']['instance']}" + (" (other datacenter)" if _crossed(r) else "")
        table.add_row(
            r.ask.label,
            f"{a['usage']['prompt_tokens']:,}",
            where + (f" after {a['fallback']}" if a.get("fallback") else ""),
            f"{a['kv']['bytes_wire'] / 1e6:.2f} MB",
            f"{a['kv']['transfer_ms']:.0f} ms",
            f"{a['prefill_ms']:.0f} ms",
            f"{a['ttft_ms']:.0f} ms",
            str(a["usage"]["completion_tokens"]),
            style="cyan" if _crossed(r) else None,
        )
    return table


def verification_table(pairs: Sequence[Pair]) -> Table:
    """One row per prompt: are the tokens the same wherever it was prefilled?"""
    table = Table(title="the same prompts, prefilled in each datacenter: are the tokens equal?")
    for heading in ("prompt", "prompt tokens", "tokens compared", "equal"):
        table.add_column(heading, justify="left" if heading == "prompt" else "right")
    for pair in pairs:
        verdict = "[green]yes[/green]" if pair.equal else "[red]NO[/red]"
        if not pair.as_asked:
            verdict = "[red]not compared: a prefill did not run where it was sent[/red]"
        table.add_row(
            pair.local.ask.label,
            f"{pair.local.account['usage']['prompt_tokens']:,}",
            str(len(pair.local.token_ids)),
            verdict,
        )
    return table
