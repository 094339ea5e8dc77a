"""What a deployment file offers, as one prfaas pool, one pd pool and one way between them. Solves nothing."""

from dataclasses import dataclass, replace

from prfaas.config.deployment import DeploymentFile, PlannedClusterSection
from prfaas.planner.plan.decode_batch import within_slo
from prfaas.planner.plan.prompt_lengths import Scaled, prompt_lengths
from prfaas.planner.profiles import read_profile
from prfaas.planner.simulate.capacity import BYTES_PER_GBIT, EFFICIENCY
from prfaas.policy.lengths import Lengths
from prfaas.policy.pool import check_one_model, pooled
from prfaas.policy.profile import Profile
from prfaas.policy.throughput import Deployment

PAYLOAD_BYTES_PER_GBIT = BYTES_PER_GBIT * EFFICIENCY
"""Of KV, for each Gbit that a link carries."""


@dataclass(frozen=True, slots=True)
class PoolLink:
    """From one pool to another."""

    bytes_s: float
    """The payload that it carries."""
    rtt_s: float
    usd_per_gb: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is there and what is asked of it. Made other by `dataclasses.replace`, for baselines and what-ifs."""

    prfaas: Profile | None
    """None: homogeneous."""
    pd: Profile
    n_prfaas: int
    n_pd: int
    least_n_p: int
    most_n_p: int
    """Of the pd instances, that may prefill: equal where the file says how many do."""
    egress_bytes_s: float
    """All links from prfaas to pd clusters together: the payload that they carry."""
    rtt_s: float
    usd_per_gb: float
    """Both are means over the links, by their capacity."""
    prompts: Lengths
    output_tokens: float
    hit_rate: float
    rate_req_s: float | None
    """Null in the file: 0.9 of what the plan says."""
    tpot_s: float

    @property
    def lengths(self) -> Lengths:
        """Uncached."""
        return Scaled(self.prompts, 1 - self.hit_rate) if self.hit_rate else self.prompts

    def deployment(self) -> Deployment:
        """With the decode batch that the SLO allows. Raises ConfigError where it allows none."""
        return Deployment(
            prfaas=self.prfaas,
            pd=within_slo(self.pd, self.tpot_s, self.prompts.mean + self.output_tokens / 2),
            n_prfaas=self.n_prfaas,
            n_pd=self.n_pd,
            egress_bytes_s=self.egress_bytes_s,
            output_tokens=self.output_tokens,
            hit_rate=self.hit_rate,
        )

    @property
    def link_gbit_s(self) -> float:
        """All links together, as links are sold."""
        return self.egress_bytes_s / PAYLOAD_BYTES_PER_GBIT

    @property
    def usd_per_hour(self) -> float:
        """Of all instances."""
        return self.n_pd * self.pd.usd_per_hour + (self.n_prfaas * self.prfaas.usd_per_hour if self.prfaas else 0.0)


def fleet_of(file: DeploymentFile) -> Fleet:
    """Clusters of a kind are one pool (see `pooled`), links between the pools one link with the sum of what they carry.

    Raises ConfigError for profiles and traces that cannot be used.
    """
    remote = [cluster for cluster in file.clusters if cluster.kind == "prfaas"]
    home = [cluster for cluster in file.clusters if cluster.kind == "pd"]
    prompts, output_tokens = prompt_lengths(file.workload)
    between = pool_link(file, remote, home)
    n_pd = _count(home)
    least = sum(cluster.prefill or 0 for cluster in home)
    free = sum(cluster.instances for cluster in home if cluster.prefill is None)
    prfaas, pd = _pool(remote) if remote else None, _pool(home)
    check_one_model([pd, prfaas or pd])
    return Fleet(
        prfaas=prfaas,
        pd=pd,
        n_prfaas=_count(remote),
        n_pd=n_pd,
        least_n_p=least,
        most_n_p=min(n_pd - 1, least + free),
        egress_bytes_s=between.bytes_s,
        rtt_s=between.rtt_s,
        usd_per_gb=between.usd_per_gb,
        prompts=prompts,
        output_tokens=output_tokens,
        hit_rate=file.workload.hit_rate,
        rate_req_s=file.workload.rate_req_s,
        tpot_s=file.slo.tpot_ms / 1e3,
    )


def baseline_of(file: DeploymentFile, fleet: Fleet) -> Fleet:
    """The homogeneous cluster to compare with: the file's `baseline`, or pd instances alone, as many as there are."""
    section = file.baseline
    n_pd = section.instances if section else max(2, fleet.n_prfaas + fleet.n_pd)
    return replace(
        fleet,
        prfaas=None,
        pd=read_profile(section.profile) if section else fleet.pd,
        n_prfaas=0,
        n_pd=n_pd,
        least_n_p=0,
        most_n_p=n_pd - 1,
    )


def _count(clusters: list[PlannedClusterSection]) -> int:
    return sum(cluster.instances for cluster in clusters)


def _pool(clusters: list[PlannedClusterSection]) -> Profile:
    return pooled([(read_profile(cluster.profile), cluster.instances) for cluster in clusters])


def pool_link(file: DeploymentFile, remote: list[PlannedClusterSection], home: list[PlannedClusterSection]) -> PoolLink:
    """All links from `remote` to `home` as one, as each is at the beginning; without any, one that carries nothing."""
    links = [link for a in remote for b in home if (link := file.link(a.name, b.name))]
    if not links:
        return PoolLink(0.0, 0.0, 0.0)
    capacity = [link.gbit_s * (1 - link.loss) * PAYLOAD_BYTES_PER_GBIT for link in links]
    whole = sum(capacity)
    rtt_s = sum(link.rtt_ms / 1e3 * bytes_s for link, bytes_s in zip(links, capacity, strict=True)) / whole
    usd = sum(link.usd_per_gb * bytes_s for link, bytes_s in zip(links, capacity, strict=True)) / whole
    return PoolLink(whole, rtt_s, usd)
