"""What to configure for a path, from measurements of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.core.shape import ModelShape
from prfaas.transport.probe import ProbeRun

ENOUGH = 0.95
"""Of the highest rate: connections beyond those that reach it cost threads, and gain nothing that lasts."""
PROMPT_TOKENS = (8 << 10, 32 << 10, 128 << 10)


@dataclass(frozen=True, slots=True)
class Advice:
    """For one path."""

    bytes_per_s: float
    """What it will carry."""
    streams: int
    congestion_control: str
    rtt_added_s: float
    """By load: what waits on the way."""
    transfer_s: tuple[tuple[int, float], ...]
    """Tokens of a prompt, and seconds to move all that the model caches of it; empty without a model."""

    @property
    def gbit_s(self) -> float:
        return self.bytes_per_s * 8 / 1e9


def advise(runs: Sequence[ProbeRun], idle_rtt_s: float | None, shape: ModelShape | None) -> Advice:
    """`runs` has at least one; of equally good ones that with the fewest connections is taken."""
    most = max(run.bytes_per_s for run in runs)
    best = min((run for run in runs if run.bytes_per_s >= ENOUGH * most), key=lambda run: run.streams)
    rate = best.bytes_per_s
    return Advice(
        bytes_per_s=rate,
        streams=best.streams,
        congestion_control=best.congestion_control,
        rtt_added_s=max(0.0, best.rtt_s - idle_rtt_s) if best.rtt_s and idle_rtt_s else 0.0,
        transfer_s=tuple((tokens, shape.cache_bytes(tokens) / rate) for tokens in PROMPT_TOKENS)
        if shape and rate
        else (),
    )
