"""What a reader of a plan must know besides its figures. Knows no formulas of its own."""

from collections.abc import Iterator

from prfaas.config.deployment import DeploymentFile
from prfaas.planner.plan.fleet import Fleet
from prfaas.planner.plan.forecast import Forecast
from prfaas.planner.profiles import read_profile


def notes(file: DeploymentFile, fleet: Fleet, forecasts: dict[str, Forecast]) -> list[str]:
    """In whole sentences."""
    return [*_lengths(file, fleet), *_pools(file), *_links(file), *_cache(file), *_load(file, forecasts)]


def _lengths(file: DeploymentFile, fleet: Fleet) -> Iterator[str]:
    longest = fleet.prompts.quantile(1.0)
    paths = [cluster.profile for cluster in file.clusters] + ([file.baseline.profile] if file.baseline else [])
    for profile in {path: read_profile(path) for path in paths}.values():
        if not profile.prefill.covers(longest):
            measured = profile.prefill.points[-1][0]
            yield (
                f"Lengths above {measured:,.0f} tokens are extrapolated by the profile's formula ({profile.name}); "
                f"prompts go up to {longest:,.0f}."
            )


def _pools(file: DeploymentFile) -> Iterator[str]:
    for kind in ("prfaas", "pd"):
        clusters = [cluster for cluster in file.clusters if cluster.kind == kind]
        if len(clusters) > 1:
            unequal = len({cluster.profile for cluster in clusters}) > 1
            yield (
                f"The {len(clusters)} {kind} clusters are planned as one pool"
                + (", whose instances are all as fast as theirs are together" if unequal else "")
                + "; links between pools are one link with the sum of what they carry."
            )


def _links(file: DeploymentFile) -> Iterator[str]:
    if any(link.timeline for link in file.links):
        yield "Links are planned as they are at the start; `prfaas simulate` plays their timelines."
    if any(link.loss for link in file.links):
        yield "Of a link's capacity the share that is lost is taken off, and nothing for what TCP makes of losses."


def _cache(file: DeploymentFile) -> Iterator[str]:
    if file.workload.input.distribution in ("trace", "agentic") and not file.workload.hit_rate:
        yield "Nothing is taken to be cached, though this workload repeats itself; set workload.hit_rate."
    if file.workload.bursts:
        yield "Bursts are left out; `prfaas simulate` plays them."


def _load(file: DeploymentFile, forecasts: dict[str, Forecast]) -> Iterator[str]:
    for name, forecast in forecasts.items():
        if forecast.ttft_queued_p90_s is None:
            yield (
                f"{name}: at {forecast.planned_req_s:.2f} requests/s queues would grow for ever; of Lambda_max "
                f"{forecast.lambda_max:.2f}, which takes T at mean lengths, {forecast.lambda_max_expected:.2f} remain "
                "with the mean of T, and decode slots are held while prompts are prefilled."
            )
        elif forecast.ttft_queued_p90_s > file.slo.ttft_s:
            yield (
                f"{name}: with queues, one request in ten waits {forecast.ttft_queued_p90_s:.1f} s or more for its "
                f"first token at {forecast.planned_req_s:.2f} requests/s; slo.ttft_s is {file.slo.ttft_s:g}."
            )
