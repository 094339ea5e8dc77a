"""Small deployments with profiles written for them, and requests that come at given times."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from prfaas.config.deployment import (
    DeploymentFile,
    FixedSection,
    LognormalSection,
    PlannedClusterSection,
    PlannedEngineSection,
    PlannedLinkSection,
    SloSection,
    WorkloadSection,
)
from prfaas.config.sections import LoopsSection
from prfaas.planner.simulate.arrival import Arrival
from tests.planner.simulate.links import section

STATE_BYTES = 1_000.0
TOKEN_BYTES = 10.0

PROFILE = """
source: made for a test
model: {{name: tiny, kv_bytes_per_token: {kv}, state_bytes: {state}}}
hardware: {{name: {name}, gpus: 1, usd_per_gpu_hour: {usd}, cache_gib: {cache_gib}}}
prefill: {{overhead_s: {overhead_s}, per_token_s: {per_token_s}}}
decode: {{points: [{{requests: 1, seconds: 0.01}}], max_batch: 8}}
"""


def profile(
    folder: Path,
    name: str,
    *,
    per_token_s: float = 1e-3,
    overhead_s: float = 0.0,
    usd: float = 2.0,
    state_bytes: float = STATE_BYTES,
    cache_gib: float = 0.02,
) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(
        PROFILE.format(
            kv=TOKEN_BYTES,
            state=state_bytes,
            name=name,
            usd=usd,
            cache_gib=cache_gib,
            overhead_s=overhead_s,
            per_token_s=per_token_s,
        ),
        encoding="utf-8",
    )
    return path


def deployment(
    folder: Path,
    link: PlannedLinkSection | None = None,
    *,
    remote: int = 1,
    local: int = 3,
    prefill: int | None = 1,
    workload: WorkloadSection | None = None,
    loops: LoopsSection | None = None,
    ttft_s: float = 10.0,
) -> DeploymentFile:
    """A prfaas cluster "far" that computes 2,000 tokens/s and a pd cluster "near" at half of that."""
    far = PlannedClusterSection(
        name="far", kind="prfaas", profile=profile(folder, "fast", per_token_s=5e-4, usd=4.0), instances=max(1, remote)
    )
    near = PlannedClusterSection(
        name="near", kind="pd", profile=profile(folder, "slow"), instances=local, prefill=prefill
    )
    return DeploymentFile(
        name="tiny",
        workload=workload or WorkloadSection(input=FixedSection(distribution="fixed", tokens=1000), output_tokens=11),
        slo=SloSection(ttft_s=ttft_s, tpot_ms=50),
        clusters=(far, near) if remote else (near,),
        links=(link or section(100_000.0),) if remote else (),
        engine=PlannedEngineSection(),
        loops=loops or LoopsSection(),
    )


def lognormal() -> WorkloadSection:
    source = LognormalSection(mu=6.5, sigma=0.8, min_tokens=50, max_tokens=5_000)
    return WorkloadSection(input=source, output_tokens=20)


class Given:
    """A workload of requests that are known beforehand."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = arrivals

    def arrivals(self) -> Iterator[Arrival]:
        return iter(self._arrivals)

    def answered(self, arrival: Arrival, at_s: float) -> Arrival | None:  # noqa: ARG002 - they do not depend on answers
        return None


def given(*requests: tuple[float, int, int]) -> Given:
    """(at_s, prompt tokens, output tokens)."""
    return Given([Arrival(number, *request) for number, request in enumerate(requests)])
