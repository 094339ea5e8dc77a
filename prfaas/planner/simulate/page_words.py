"""A deployment file in sentences. Knows no figures of a run."""

from collections.abc import Iterator
from typing import assert_never

from prfaas.config.deployment import (
    AgenticSection,
    DeploymentFile,
    FixedSection,
    InputSection,
    LinkChangeSection,
    LognormalSection,
    PlannedClusterSection,
    PlannedLinkSection,
    TraceSection,
    WorkloadSection,
)


def described(deployment: DeploymentFile, *, rate_req_s: float) -> list[str]:
    """Clusters, links, workload and objectives, one sentence each."""
    slo = deployment.slo
    return [
        *(_cluster(cluster) for cluster in deployment.clusters),
        *(_link(link) for link in deployment.links),
        _workload(deployment.workload, rate_req_s),
        (
            f"An answer is good if its first token comes within {slo.ttft_s:g} s and each further one within "
            f"{slo.tpot_ms:g} ms on average."
        ),
    ]


def _cluster(cluster: PlannedClusterSection) -> str:
    roles = "only prefill" if cluster.kind == "prfaas" else "prefill and decode"
    split = "" if cluster.prefill is None else f", {cluster.prefill} of them prefill at first"
    return f"{cluster.name}: {cluster.instances} instances of {cluster.profile.stem} that {roles}{split}."


def _link(link: PlannedLinkSection) -> str:
    a, b = link.between
    said = f"{a} and {b} are joined by {link.gbit_s:g} Gbit/s, {link.rtt_ms:g} ms there and back"
    said += f", {link.loss:.2%} of the packets lost" if link.loss else ""
    said += f", at {link.usd_per_gb:g} $/GB" if link.usd_per_gb else ""
    if link.timeline:
        said += "; " + ", ".join(_change(change) for change in link.timeline)
        said += f", and again every {link.repeat_s:g} s" if link.repeat_s else ""
    return said + "."


def _change(change: LinkChangeSection) -> str:
    return f"from {change.at_s:g} s {' '.join(_changed(change))}".rstrip()


def _changed(change: LinkChangeSection) -> Iterator[str]:
    if change.up is not None:
        yield "up" if change.up else "down"
    if change.gbit_s is not None:
        yield f"{change.gbit_s:g} Gbit/s"
    if change.rtt_ms is not None:
        yield f"{change.rtt_ms:g} ms"
    if change.loss is not None:
        yield f"{change.loss:.2%} lost"


def _workload(workload: WorkloadSection, rate_req_s: float) -> str:
    bursts = "".join(f"; {b.factor:g} times as fast for {b.for_s:g} s from {b.at_s:g} s" for b in workload.bursts)
    return f"{_input(workload.input, workload.output_tokens, rate_req_s)}{bursts}."


def _input(source: InputSection, output_tokens: int, rate_req_s: float) -> str:
    match source:
        case LognormalSection():
            return (
                f"Independent requests, {rate_req_s:.3g} a second: prompts log-normal with mu {source.mu:g} and sigma "
                f"{source.sigma:g} between {source.min_tokens:,} and {source.max_tokens:,} tokens, answers of "
                f"{output_tokens:,}"
            )
        case FixedSection():
            return (
                f"Independent requests, {rate_req_s:.3g} a second: prompts of {source.tokens:,} tokens, answers of "
                f"{output_tokens:,}"
            )
        case TraceSection():
            return f"Requests of {source.path.name}, {source.rate_scale:g} times as fast as they came"
        case AgenticSection():
            return (
                f"{source.sessions:,} sessions at once, of {source.turns} turns on average: first prompts of "
                f"{source.first_tokens:,} tokens, {source.added_tokens:,} added before each further turn, answers of "
                f"{output_tokens:,}, {source.think_s:g} s between"
            )
        case _:
            assert_never(source)
