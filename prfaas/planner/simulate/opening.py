"""What a simulation begins with: roles and threshold as the plan finds them best. Knows no policies' names."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from prfaas.config.deployment import DeploymentFile, FixedSection, LognormalSection, PlannedClusterSection
from prfaas.core.errors import ConfigError
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.plan.decode_batch import within_slo
from prfaas.planner.plan.fleet import pool_link
from prfaas.planner.profiles import read_profile
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival
from prfaas.planner.simulate.seat import Seat
from prfaas.planner.simulate.workloads.first_prompts import first_prompts
from prfaas.policy.lengths import Empirical, Fixed, Lengths, Lognormal
from prfaas.policy.pool import pooled
from prfaas.policy.profile import Profile
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Deployment, Throughput, throughput
from prfaas.policy.view import Role

PROMPTS = 5_000
"""Of a trace or of sessions, that the plan looks at."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Before the first arrival."""

    deployment: Deployment
    """As the throughput model sees it: all clusters of a kind as one."""
    lengths: Lengths
    """Uncached."""
    threshold_tokens: int
    seats: tuple[tuple[Seat, Profile], ...]


@dataclass(frozen=True, slots=True)
class ExpectedLoad:
    """What requests are expected to be like."""

    lengths: Lengths
    """Uncached."""
    prompt_tokens: float
    """Mean, cached ones included."""
    output_tokens: float
    """Mean."""


def opening(file: DeploymentFile, policy: str) -> Opening:
    """Roles that the file does not fix are those with which the policy's kind of deployment does most: a comparison is
    to show policies at their best.

    Raises ConfigError for profiles and traces that cannot be used, and where no decode step keeps the objective.
    """
    remote = [cluster for cluster in file.clusters if cluster.kind == "prfaas"]
    home = [cluster for cluster in file.clusters if cluster.kind == "pd"]
    profiles = {cluster.name: read_profile(cluster.profile) for cluster in file.clusters}
    expected = expected_load(file)
    lengths = expected.lengths
    pd = pooled([(profiles[cluster.name], cluster.instances) for cluster in home])
    deployment = Deployment(
        prfaas=pooled([(profiles[cluster.name], cluster.instances) for cluster in remote]) if remote else None,
        pd=within_slo(pd, file.slo.tpot_ms / 1e3, expected.prompt_tokens + expected.output_tokens / 2),
        n_prfaas=sum(cluster.instances for cluster in remote),
        n_pd=sum(cluster.instances for cluster in home),
        egress_bytes_s=pool_link(file, remote, home).bytes_s,
        output_tokens=expected.output_tokens,
        hit_rate=max(0.0, 1 - lengths.mean / expected.prompt_tokens),
    )
    fixed = [cluster.prefill for cluster in home]
    n_p = sum(count or 0 for count in fixed) if None not in fixed else None
    deployment = _as_used(deployment, policy)
    best = _best(deployment, lengths, policy, n_p)
    shares = _shares(home, best.n_p)
    seats = tuple(
        (seat, profiles[cluster.name])
        for cluster in file.clusters
        for seat in _seats(cluster, shares.get(cluster.name))
    )
    return Opening(deployment, lengths, best.threshold_tokens, seats)


def _as_used(deployment: Deployment, policy: str) -> Deployment:
    """Where nothing is offloaded, all prefill is local."""
    return replace(deployment, prfaas=None, n_prfaas=0) if policy == "local_only" else deployment


def _best(deployment: Deployment, lengths: Lengths, policy: str, n_p: int | None) -> Throughput:
    """Where everything is offloaded, everything else decodes: the naive heterogeneous deployment of table 6."""
    if policy == "all_remote" and deployment.offloads:
        return throughput(deployment, lengths, 0, n_p or 0)
    return solve(deployment, lengths, n_p=n_p)


def expected_load(file: DeploymentFile) -> ExpectedLoad:
    """Prompts of distributions share nothing with each other: whatever the plan takes to be cached, here it is not. Of
    traces and sessions the first 5,000 prompts are looked at, less what a cache that forgets nothing would hold.

    Raises ConfigError for a trace that cannot be used.
    """
    workload = file.workload
    match workload.input:
        case LognormalSection() as source:
            lengths = Lognormal(source.mu, source.sigma, source.min_tokens, source.max_tokens)
            return ExpectedLoad(lengths, lengths.mean, workload.output_tokens)
        case FixedSection() as source:
            return ExpectedLoad(Fixed(source.tokens), source.tokens, workload.output_tokens)
        case _:
            first = first_prompts(workload, PROMPTS)
            if not first:
                raise ConfigError("workload.input: there is not one request in it; give a trace that has some")
            prompt_tokens = sum(arrival.prompt_tokens for arrival in first) / len(first)
            output_tokens = sum(arrival.output_tokens for arrival in first) / len(first)
            return ExpectedLoad(Empirical(_uncached(first)), prompt_tokens, max(1.0, output_tokens))


def _uncached(arrivals: list[Arrival]) -> list[int]:
    seen: set[int] = set()
    found = []
    for arrival in arrivals:
        blocks = arrival.blocks
        held = next((i for i, block in enumerate(blocks) if block not in seen), len(blocks))
        found.append(max(1, arrival.prompt_tokens - held * ID_TOKENS))
        seen.update(blocks)
        seen.update(arrival.answer_blocks)
    return found


def _shares(home: list[PlannedClusterSection], n_p: int) -> dict[str, int]:
    """Prefill instances of each pd cluster: those that are given, and the rest in proportion; one at least decodes."""
    shares = {cluster.name: cluster.prefill for cluster in home}
    left = n_p - sum(count or 0 for count in shares.values())
    free = [cluster for cluster in home if cluster.prefill is None]
    room = sum(cluster.instances for cluster in free)
    for cluster in free:
        mine = round(left * cluster.instances / room)
        shares[cluster.name] = max(0, min(mine, cluster.instances - 1))
        left, room = left - mine, room - cluster.instances
    return {name: count or 0 for name, count in shares.items()}


def _seats(cluster: PlannedClusterSection, prefills: int | None) -> Iterator[Seat]:
    """Named after cluster and role, as they begin."""
    for i in range(cluster.instances):
        role: Role = "prefill" if prefills is None or i < prefills else "decode"
        yield Seat(InstanceId(f"{cluster.name}-{i}"), ClusterName(cluster.name), cluster.kind, role)
