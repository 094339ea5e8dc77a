"""Rules over several sections of a fleet file: names that must be unique, references that must resolve."""

from collections.abc import Iterator

from prfaas.config.fault import Fault, Path
from prfaas.config.sections import MAX_PORT, EngineSection, FleetConfig, counted_up, is_wildcard, split_address


def check(config: FleetConfig) -> list[Fault]:
    """Every fault that no single section can see."""
    return [
        *_cluster_names(config),
        *_instance_names(config),
        *_roles(config),
        *_links(config),
        *_ports(config),
        *_workers(config),
        *_engines(config),
        *_dialled(config),
        *_transport(config),
        *_security(config),
        *_admission(config),
        *_origins(config),
    ]


def _cluster_names(config: FleetConfig) -> Iterator[Fault]:
    seen: set[str] = set()
    for i, cluster in enumerate(config.clusters):
        if cluster.name in seen:
            yield Fault(("clusters", i, "name"), f"two clusters are named {cluster.name!r}; rename one")
        seen.add(cluster.name)
    if config.router.cluster is not None and config.router.cluster not in seen:
        yield Fault(("router", "cluster"), f"no cluster is named {config.router.cluster!r}")


def _instance_names(config: FleetConfig) -> Iterator[Fault]:
    seen: set[str] = set()
    for i, cluster in enumerate(config.clusters):
        for j, instance in enumerate(cluster.instances):
            if instance.name in seen:
                where: Path = ("clusters", i, "instances", j, "name")
                yield Fault(where, f"two instances are named {instance.name!r}; names are unique in a fleet")
            seen.add(instance.name)


def _roles(config: FleetConfig) -> Iterator[Fault]:
    for i, cluster in enumerate(config.clusters):
        for j, instance in enumerate(cluster.instances):
            if cluster.kind == "prfaas" and instance.role == "decode":
                where: Path = ("clusters", i, "instances", j, "role")
                yield Fault(where, f"a 'prfaas' cluster only prefills; move {instance.name!r} to a 'pd' cluster")
    if not any(cluster.kind == "pd" for cluster in config.clusters):
        yield Fault(("clusters",), "no cluster has kind 'pd', so nothing could decode; add one")


def _links(config: FleetConfig) -> Iterator[Fault]:
    names = {cluster.name for cluster in config.clusters}
    seen: set[frozenset[str]] = set()
    for i, link in enumerate(config.links):
        for j, end in enumerate(link.between):
            if end not in names:
                yield Fault(("links", i, "between", j), f"no cluster is named {end!r}")
        if frozenset(link.between) in seen:
            yield Fault(("links", i, "between"), f"a second link between {' and '.join(link.between)}; keep one")
        if link.proxy and link.relay:
            yield Fault(("links", i, "proxy"), "a link has either a proxy or a relay, not both; remove one")
        seen.add(frozenset(link.between))


def _ports(config: FleetConfig) -> Iterator[Fault]:
    taken: dict[str, Path] = {}
    for path, address in _listeners(config):
        if address.endswith(":0"):
            continue
        if address in taken:
            other = ".".join(map(str, taken[address]))
            yield Fault(path, f"{address} is already taken by {other}; choose another port")
        taken.setdefault(address, path)


def _listeners(config: FleetConfig) -> Iterator[tuple[Path, str]]:
    yield ("router", "http"), config.router.http
    yield ("router", "control"), config.router.control
    for worker in range(1, config.router.workers):
        yield ("router", "control"), counted_up(config.router.control, worker)
    for worker in range(config.router.workers if config.router.workers > 1 else 0):
        yield ("router", "worker_http"), counted_up(config.router.worker_http, worker)
    for i, cluster in enumerate(config.clusters):
        for j, instance in enumerate(cluster.instances):
            for key in ("control", "data", "metrics", "kv_events", "kv_replay"):
                yield ("clusters", i, "instances", j, key), getattr(instance, key)
    for i, link in enumerate(config.links):
        if link.relay:
            yield ("links", i, "relay", "listen"), link.relay.listen


def _workers(config: FleetConfig) -> Iterator[Fault]:
    workers = config.router.workers
    for key in ("control", "worker_http") if workers > 1 else ():
        if split_address(getattr(config.router, key))[1] + workers - 1 > MAX_PORT:
            yield Fault(("router", key), f"{workers} workers need as many ports from there; choose a lower one")


def _engines(config: FleetConfig) -> Iterator[Fault]:
    for path, engine in _engine_sections(config):
        if engine.step_tokens <= engine.max_running_requests:
            yield Fault(
                (*path, "step_tokens"),
                f"{engine.step_tokens} leaves no room for prefill beside {engine.max_running_requests} decoding "
                "requests; raise step_tokens above max_running_requests",
            )


def _engine_sections(config: FleetConfig) -> Iterator[tuple[Path, EngineSection]]:
    yield ("engine",), config.engine
    for i, cluster in enumerate(config.clusters):
        for j, instance in enumerate(cluster.instances):
            if instance.engine:
                yield ("clusters", i, "instances", j, "engine"), instance.engine


def _dialled(config: FleetConfig) -> Iterator[Fault]:
    """Other processes read these addresses from the same file, so they must be real ones."""
    host, port = split_address(config.router.control)
    if port == 0:
        yield Fault(("router", "control"), "instances dial this address, so it needs a port of its own, not 0")
    if is_wildcard(host) and config.router.advertise_host is None:
        yield Fault(("router", "control"), f"instances cannot dial {host}; set router.advertise_host too")
    for i, link in enumerate(config.links):
        if link.relay and (
            split_address(link.relay.listen)[1] == 0 or is_wildcard(split_address(link.relay.listen)[0])
        ):
            where: Path = ("links", i, "relay", "listen")
            yield Fault(where, f"instances dial {link.relay.listen}, so it needs a real host and a port other than 0")


def _transport(config: FleetConfig) -> Iterator[Fault]:
    """What would leave transfers without a frame, a connection or memory to go on with."""
    section = config.transport
    for key in ("credit_bytes", "staging_bytes"):
        if getattr(section, key) < section.frame_bytes:
            yield Fault(
                ("transport", key),
                f"{getattr(section, key)} has no room for one frame of {section.frame_bytes} bytes; raise it to many "
                "times transport.frame_bytes, or lower that",
            )
    for most in ("max_streams", "max_connections"):
        if getattr(section, most) < section.min_streams:
            yield Fault(
                ("transport", most),
                f"{getattr(section, most)} is less than transport.min_streams, {section.min_streams}; raise it, or "
                "lower that",
            )


def _security(config: FleetConfig) -> Iterator[Fault]:
    """Nothing is sent in the clear because somebody forgot a section."""
    security = config.security
    if security is None:
        yield Fault(
            ("security",),
            "this section is required; make certificates with `prfaas certs`, which prints it, or write "
            "`security: {mode: plain}` if the network is private already",
        )
        return
    for key in ("ca", "cert", "key"):
        if security.mode == "mtls" and getattr(security, key) is None:
            yield Fault(("security", key), "mode mtls needs this PEM file; `prfaas certs` makes all three")
    if security.mode == "mtls" and not security.allowed_names:
        yield Fault(("security", "allowed_names"), 'an empty list refuses everybody; ["*"] trusts the whole fleet')


def _admission(config: FleetConfig) -> Iterator[Fault]:
    """Tenants who are one, or who are never let in."""
    names: set[str] = set()
    digests: set[str] = set()
    for i, key in enumerate(config.admission.api_keys):
        where: Path = ("admission", "api_keys", i)
        if key.name in names:
            yield Fault((*where, "name"), f"two API keys are named {key.name!r}; rename one")
        if key.sha256 in digests:
            yield Fault((*where, "sha256"), f"{key.name!r} has another tenant's key; make one with `prfaas key`")
        names.add(key.name)
        digests.add(key.sha256)


def _origins(config: FleetConfig) -> Iterator[Fault]:
    """What browsers would never send as an origin."""
    for i, origin in enumerate(config.router.cors_origins):
        scheme, _, host = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not host or set(host) & set("/?#@* ")):
            message = f"{origin!r} is no origin: write https://HOST or https://HOST:PORT without a path, or '*' for all"
            yield Fault(("router", "cors_origins", i), message)
