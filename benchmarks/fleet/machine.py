"""How busy this machine was, and whether emulated engines kept their time: what a run's figures are worth."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.fleet.calls import get

STAT = Path("/proc/stat")
LATE = "prfaas_emulation_late_seconds"
NOTABLE_S = "0.1"
"""A bucket of that histogram."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Of all processors together, since the machine's start, in ticks."""

    busy: int
    total: int

    @classmethod
    def now(cls) -> "CpuTime":
        """Whoever used it, us or others."""
        fields = [int(field) for field in STAT.read_text().splitlines()[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return cls(sum(fields) - idle, sum(fields))

    def share_since(self, before: "CpuTime") -> float:
        """0 to 1."""
        return (self.busy - before.busy) / max(1, self.total - before.total)


@dataclass(frozen=True, slots=True)
class Lateness:
    """Of emulated steps."""

    steps: float = 0.0
    seconds: float = 0.0
    late_steps: float = 0.0
    """By more than a tenth of a second."""

    def since(self, before: "Lateness") -> "Lateness":
        return Lateness(self.steps - before.steps, self.seconds - before.seconds, self.late_steps - before.late_steps)

    @property
    def mean_ms(self) -> float:
        return self.seconds / self.steps * 1e3 if self.steps else 0.0

    @property
    def late_share(self) -> float:
        return self.late_steps / self.steps if self.steps else 0.0


def samples(page: bytes) -> Iterator[Sample]:
    """Of a page of metrics."""
    for family in text_string_to_metric_families(page.decode()):
        yield from family.samples


async def lateness(metrics_addresses: Iterable[str]) -> Lateness:
    """Of all instances together, since their start."""
    pages = await asyncio.gather(*(asyncio.to_thread(get, address, "/metrics") for address in metrics_addresses))
    found: dict[str, float] = {"sum": 0.0, "count": 0.0, "bucket": 0.0}
    for page in pages:
        for sample in samples(page):
            kind = sample.name.removeprefix(f"{LATE}_")
            if kind in found and sample.labels.get("le", NOTABLE_S) == NOTABLE_S:
                found[kind] += sample.value
    return Lateness(found["count"], found["sum"], found["count"] - found["bucket"])
