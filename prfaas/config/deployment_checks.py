"""Rules over several sections of a deployment file: names that must be unique, references that must resolve."""

from collections.abc import Iterator

from prfaas.config.deployment import DeploymentFile
from prfaas.config.fault import Fault


def check_deployment(deployment: DeploymentFile) -> list[Fault]:
    """Every fault that no single section can see."""
    return [*_clusters(deployment), *_links(deployment), *_timelines(deployment), *_joined(deployment)]


def _clusters(deployment: DeploymentFile) -> Iterator[Fault]:
    seen: set[str] = set()
    for i, cluster in enumerate(deployment.clusters):
        if cluster.name in seen:
            yield Fault(("clusters", i, "name"), f"two clusters are named {cluster.name!r}; rename one")
        seen.add(cluster.name)
        if cluster.kind == "prfaas" and cluster.prefill is not None:
            yield Fault(("clusters", i, "prefill"), "all instances of a prfaas cluster prefill; remove this key")
        if cluster.kind == "pd" and cluster.prefill is not None and cluster.prefill >= cluster.instances:
            yield Fault(("clusters", i, "prefill"), f"of {cluster.instances} instances one at least must decode")
    if not any(cluster.kind == "pd" for cluster in deployment.clusters):
        yield Fault(("clusters",), "no cluster has kind 'pd', so nothing could decode; add one")


def _links(deployment: DeploymentFile) -> Iterator[Fault]:
    names = {cluster.name for cluster in deployment.clusters}
    seen: set[frozenset[str]] = set()
    for i, link in enumerate(deployment.links):
        for end in link.between:
            if end not in names:
                yield Fault(("links", i, "between"), f"no cluster is named {end!r}")
        if link.between[0] == link.between[1]:
            yield Fault(("links", i, "between"), "a link joins two different clusters")
        if frozenset(link.between) in seen:
            yield Fault(("links", i, "between"), "these two clusters have a link already")
        seen.add(frozenset(link.between))


def _timelines(deployment: DeploymentFile) -> Iterator[Fault]:
    for i, link in enumerate(deployment.links):
        times = [change.at_s for change in link.timeline]
        if times != sorted(times):
            yield Fault(("links", i, "timeline"), "at_s must not fall from one change to the next")
        if link.repeat_s is not None and times and times[-1] >= link.repeat_s:
            yield Fault(("links", i, "repeat_s"), f"must be above the last change's at_s, {times[-1]:g}")


def _joined(deployment: DeploymentFile) -> Iterator[Fault]:
    for remote in (c for c in deployment.clusters if c.kind == "prfaas"):
        for home in (c for c in deployment.clusters if c.kind == "pd"):
            if not deployment.link(remote.name, home.name):
                yield Fault(("links",), f"nothing joins {remote.name!r} and {home.name!r}; describe the link")
