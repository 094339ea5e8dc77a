"""The workload that a deployment file describes."""

from pathlib import Path
from random import Random
from typing import assert_never

from prfaas.config.deployment import AgenticSection, FixedSection, LognormalSection, TraceSection, WorkloadSection
from prfaas.core.errors import ConfigError
from prfaas.planner.simulate.arrival import Workload
from prfaas.planner.simulate.workloads.agentic import AgenticWorkload
from prfaas.planner.simulate.workloads.azure import AzureWorkload
from prfaas.planner.simulate.workloads.mooncake import MooncakeWorkload
from prfaas.planner.simulate.workloads.pace import Pace
from prfaas.planner.simulate.workloads.poisson import PoissonWorkload
from prfaas.planner.simulate.workloads.trace_file import numbered_lines, trace_fault
from prfaas.policy.lengths import Fixed, Lengths, Lognormal


def build_workload(section: WorkloadSection, *, rate_req_s: float, seed: int) -> Workload:
    """`rate_req_s` is for independent requests; traces and sessions have rates of their own.

    Two workloads of the same section, rate and seed have the same requests. Raises ConfigError for a file that is no
    trace, here or when the faulty line is reached, and for bursts of sessions.
    """
    rng, pace, source = Random(seed), Pace(section.bursts), section.input
    match source:
        case LognormalSection() | FixedSection():
            return PoissonWorkload(
                _lengths(source), output_tokens=section.output_tokens, rate_req_s=rate_req_s, pace=pace, rng=rng
            )
        case TraceSection():
            if is_mooncake(source.path):
                return MooncakeWorkload(source.path, rate_scale=source.rate_scale, pace=pace, rng=rng)
            return AzureWorkload(source.path, rate_scale=source.rate_scale, pace=pace)
        case AgenticSection():
            if section.bursts:
                raise ConfigError("workload.bursts: sessions send when an answer has come; remove the bursts")
            return AgenticWorkload(source, output_tokens=section.output_tokens, rng=rng)
        case _:
            assert_never(source)


def is_mooncake(path: Path) -> bool:
    """Whether a trace is of JSON lines rather than Azure's CSV. Raises ConfigError for a file that is neither."""
    _, first = next(numbered_lines(path))
    if first.lstrip().startswith(b"{"):
        return True
    if first.removeprefix(b"\xef\xbb\xbf").startswith(b"TIMESTAMP"):
        return False
    raise trace_fault(
        path, 1, "no trace that is known here; give Mooncake's JSON lines or Azure's CSV with its header line"
    )


def _lengths(source: LognormalSection | FixedSection) -> Lengths:
    if isinstance(source, FixedSection):
        return Fixed(source.tokens)
    return Lognormal(source.mu, source.sigma, source.min_tokens, source.max_tokens)
