"""The sections of a fleet file as frozen pydantic models; what one field cannot judge is judged in `checks`."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

MAX_PORT = 65535
MAX_HOST_CHARACTERS = 253
MAX_FRAME_BYTES = 64 << 20
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
"""A name or an IPv4 address, or an IPv6 address in brackets."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
Role = Literal["prefill", "decode"]


def checked_address(value: str) -> str:
    """`value` itself. Raises ValueError unless it is HOST:PORT."""
    host, _, port = value.rpartition(":")
    labels = host.strip("[]").split(".")
    sane = _HOST.fullmatch(host) and len(host) <= MAX_HOST_CHARACTERS and all(0 < len(label) < 64 for label in labels)
    if not sane or not value.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError(f"{value!r} is not HOST:PORT with a port up to {MAX_PORT} (0 lets the system choose)")
    return value


Address = Annotated[str, AfterValidator(checked_address)]


def split_address(address: str) -> tuple[str, int]:
    """`"127.0.0.1:80"` → `("127.0.0.1", 80)`; brackets around an IPv6 host are removed."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def counted_up(address: str, steps: int) -> str:
    """The address `steps` ports further; port 0 stays 0, which lets the system choose."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + steps if int(port) else 0}"


def is_wildcard(host: str) -> bool:
    """True for 0.0.0.0 and ::, which one can listen on but nobody can dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Section(BaseModel):
    """Frozen, and strict about keys: a misspelt option is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """Which checkpoint the whole fleet serves."""

    path: Path
    """Hugging Face directory; a relative path starts at the file's folder."""
    name: str = Field(min_length=1)
    """What clients put into `model`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Weights, activations and KV; linear states stay float32."""
    max_context_tokens: int | None = Field(default=None, ge=2)
    """Shortens the checkpoint's own limit; null keeps it."""


class RouterSection(Section):
    """The process that clients talk to, and that instances register with."""

    http: Address = "127.0.0.1:8000"
    control: Address = "127.0.0.1:7070"
    advertise_host: str | None = None
    """What instances dial when `control` listens on a wildcard."""
    cluster: Name | None = None
    """The cluster it runs in: links apply when instances of others reach it. Null: the first `pd` cluster."""
    threshold_tokens: int = Field(default=19_456, ge=0)
    """`t` of the paper (s3.4): prompts with more uncached tokens go to a `prfaas` cluster."""
    heartbeat_interval_s: float = Field(default=1.0, gt=0, le=60)
    missed_heartbeats: int = Field(default=3, ge=1)
    """After so many silent intervals an instance gets no new requests."""
    default_max_tokens: int = Field(default=2048, ge=1)
    """What a chat that names no limit may generate; it counts against the pool from the start."""
    first_token_deadline_s: float = Field(default=300.0, gt=0)
    drain_s: float = Field(default=30.0, ge=0)
    """How long running requests may take to end after SIGTERM."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that share `http`; each decides by itself. Their control ports count up from `control`'s."""
    worker_http: Address = "127.0.0.1:0"
    """Where each of several workers answers HTTP alone, as Prometheus must ask it; ports count up, too."""
    siblings: tuple[Address, ...] = ()
    """Control addresses of all workers of this router, set by the process that starts them."""
    replicas: tuple[Address, ...] = ()
    """Control addresses of routers elsewhere that instances register with as well."""
    retry_budget: float = Field(default=0.2, ge=0, le=1)
    """Requests that are placed a second time may be this share of the latest ones, and ten more."""
    hedge_after_s: float | None = Field(default=None, gt=0)
    """Without a first token for so long a request is sent to a second decode instance, too; null: never."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of these origins may call the HTTP endpoints; `*`: all."""
    max_body_mib: float = Field(default=16.0, gt=0, le=256)
    head_timeout_s: float = Field(default=10.0, gt=0)
    """Within which a client must have sent the head of a request, and then its body: slower ones are cut off."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    idle_timeout_s: float = Field(default=75.0, gt=0)
    """A connection without a request is closed; longer than load balancers keep theirs."""
    max_connections: int = Field(default=16_384, ge=1)
    """Open at once; further ones are answered 503 and closed."""

    @property
    def control_dial(self) -> str:
        """host:port that instances dial."""
        host, port = split_address(self.control)
        return f"{self.advertise_host or (f'[{host}]' if ':' in host else host)}:{port}"


PolicyName = Literal["prfaas", "static_threshold", "local_only", "all_remote", "isl_or_load"]


class PolicySection(Section):
    """How requests are placed."""

    name: PolicyName = "prfaas"
    margin: float = Field(default=0.25, ge=0)
    """`prfaas`: a prompt goes to the other side of the threshold if its first token is expected sooner there by this
    share of the time..."""
    margin_s: float = Field(default=0.25, ge=0)
    """...and by so many seconds."""
    usd_per_ttft_s: float = Field(default=0.01, gt=0)
    """What a second less until the first token is worth, where bytes cost money."""
    cache_transfers: bool = True
    """Whether a prefix that is cached elsewhere may cross to the instance that prefills."""
    slo_ttft_s: float | None = Field(default=None, gt=0)
    """When a first token is due; null: whenever it comes."""
    slo_patience: float = Field(default=2.0, ge=1)
    """Requests are refused when their first token is expected later than so many times `slo_ttft_s`."""
    max_queued_requests: int = Field(default=10_000, ge=0)
    """Requests that wait for a decode slot in the whole fleet, above which new ones are refused."""


class LoopsSection(Section):
    """The two timescales of the PrfaaS paper (s3.4.3)."""

    retune: bool = True
    """Whether the threshold follows load and link; it takes `policy.name: prfaas` and profiles, given or measured."""
    retune_s: float = Field(default=5.0, gt=0)
    """How often the threshold is looked at."""
    allocate_s: float = Field(default=120.0, gt=0)
    """How often the roles are."""
    convert: bool = False
    """Whether instances may change their roles."""
    convert_s: float = Field(default=30.0, ge=0)
    """That an instance is out of service when it changes its role, after it has drained."""
    cooldown_s: float = Field(default=300.0, ge=0)
    """Between two changes of roles."""


Priority = Literal["interactive", "batch"]


class ApiKeySection(Section):
    """One tenant. The key itself is in no file: `prfaas key` prints a new one, and what belongs here."""

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key's UTF-8 bytes, in hexadecimal."""
    priority: Priority = "interactive"
    """Of its requests, unless they say "batch" themselves."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """Null: no limit of its own."""
    burst: int = Field(default=20, ge=1)
    """Requests that may come at once."""
    tokens_per_s: float | None = Field(default=None, gt=0)
    """Prompt tokens and tokens generated; null: no limit."""
    token_burst: int = Field(default=200_000, ge=1)


class AdmissionSection(Section):
    """Who may come in, and how many wait."""

    api_keys: tuple[ApiKeySection, ...] = ()
    """None: everybody may. Tenants never share cached prefixes."""
    max_waiting_requests: int = Field(default=256, ge=0)
    """In this router, while the fleet is contended; more are answered 429."""
    max_wait_s: float = Field(default=10.0, ge=0)
    """After which a request that still waits is answered 429."""
    batch_share: float = Field(default=0.8, gt=0, le=1)
    """Requests of class batch come in while the fleet's decode slots are taken up to this share."""


class DiskTierSection(Section):
    """Where cached prefixes are kept on disk."""

    path: Path
    """A folder that instances of several models may share; a relative path starts at the file's folder."""
    limit_gib: float = Field(default=16.0, gt=0)


class PrefixCacheSection(Section):
    """What an engine keeps of finished prompts."""

    enabled: bool = True
    snapshot_every_tokens: int = Field(default=8192, ge=0)
    """Spacing of linear-state snapshots inside long prompts; 0: only at their ends and where prompts part."""
    answer_snapshot_tokens: int = Field(default=256, ge=0)
    """Spacing of snapshots while a request decodes, of which it keeps the last; 0: none."""
    eviction: Literal["cost", "lru"] = "cost"
    announced_s: float = Field(default=10.0, ge=0)
    """What is cached of an announced prompt stays so long for it."""
    disk: DiskTierSection | None = None


class EmulatedSection(Section):
    """An engine that computes nothing: it takes the time that a profile says, and makes as many bytes."""

    profile: Path
    """A relative path starts at the file's folder."""
    time_scale: float = Field(default=1.0, gt=0)
    """So many of the profile's seconds pass in one of ours."""
    kv_scale: float = Field(default=1.0, gt=0, le=1)
    """Share of the profile's bytes that KV and states have here."""


class EngineSection(Section):
    """One instance's engine."""

    page_tokens: int = Field(default=64, ge=1, le=64)
    """Tokens of one page, which holds all full-attention layers of them: prefixes are reusable in these steps."""
    num_pages: int = Field(default=1024, ge=1)
    """All memory of the cache: KV, linear states and snapshots take their pages from one pool."""
    max_running_requests: int = Field(default=64, ge=1)
    """Requests that hold pages at once, waiting transfers included."""
    prefix_cache: PrefixCacheSection = PrefixCacheSection()
    step_tokens: int = Field(default=1024, ge=1)
    """Token budget of one step: one per decoding request, the rest for prefill chunks."""
    decode_slowdown: float = Field(default=2.0, ge=1)
    """With prefill beside them decodes take at most so many times as long, on average, as alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model computes; auto: on this process's first GPU where there is one."""
    threads: int = Field(default=1, ge=1)
    """Of each rank, on the CPU."""
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    """Ranks, each a process, that share the model's heads, experts and vocabulary."""
    emulated: EmulatedSection | None = None
    """Instead of computing. The profile's memory then says how many pages there are, not `num_pages`."""


CodecName = Literal["raw", "exact", "int8", "state16"]


class TransportSection(Section):
    """The KV data plane."""

    frame_bytes: int = Field(default=1 << 21, ge=4096, le=MAX_FRAME_BYTES)
    """Largest payload of one frame."""
    min_streams: int = Field(default=4, ge=1, le=64)
    """TCP connections to one peer at first."""
    max_streams: int = Field(default=64, ge=1, le=64)
    """TCP connections to one peer at most; more are opened as long as they make a transfer faster."""
    max_connections: int = Field(default=1024, ge=1)
    """Connections that a receiver serves at once, from all peers."""
    credit_bytes: int = Field(default=64 << 20, ge=4096)
    """Payload that one peer may have sent to this instance and not yet seen acknowledged."""
    staging_bytes: int = Field(default=64 << 20, ge=4096)
    """Memory for received frames that must be decoded before they are placed."""
    codecs: tuple[CodecName, ...] = ("raw", "exact")
    """What KV may be encoded as. The default loses nothing; int8 (KV) and state16 (linear states) round."""
    congestion_control: str = Field(default="auto", pattern=r"^[a-z0-9_]{1,15}$")
    """TCP congestion control of data connections; auto: cubic where the path is short, bbr where it is long."""
    socket_buffer_bytes: int = Field(default=0, ge=0, le=1 << 30)
    """Of each data connection, for sending and for receiving; 0 leaves it to the kernel."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    stall_s: float = Field(default=10.0, ge=0.2)
    """A transfer without any progress for so long is given up, and the prompt prefilled on decode."""


class SecuritySection(Section):
    """Who may talk to whom: TLS 1.3 with certificates at both ends, from one authority per fleet."""

    mode: Literal["mtls", "plain"] = "mtls"
    """plain: neither encrypted nor authenticated, for networks that are private already."""
    ca: Path | None = None
    """PEM file of the authority. In these three paths `{name}` and `{cluster}` stand for the process's own (the
    router's name is `router`); relative paths start at the file's folder."""
    cert: Path | None = None
    key: Path | None = None
    fleet_name: str = Field(
        default="fleet.prfaas.internal", pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253
    )
    """DNS name that every certificate of the fleet carries, whatever address it is reached by."""
    allowed_names: tuple[str, ...] = ("*",)
    """Patterns of the other DNS names in a peer's certificate, of which one must match."""
    reload_s: float = Field(default=10.0, gt=0)
    """How often the files are looked at for newer certificates."""


class InstanceSection(Section):
    """One process. Ports of 0 are chosen by the system and announced at registration."""

    name: Name
    role: Role
    control: Address = "127.0.0.1:0"
    data: Address = "127.0.0.1:0"
    metrics: Address = "127.0.0.1:0"
    kv_events: Address = "127.0.0.1:0"
    """ZeroMQ publisher of what is cached here, in vLLM's format."""
    kv_replay: Address = "127.0.0.1:0"
    """ZeroMQ socket that repeats events to those who missed some."""
    advertise_host: str | None = None
    """What peers dial when the addresses above listen on a wildcard."""
    engine: EngineSection | None = None
    """Replaces the fleet's `engine` section for this instance."""


class ClusterSection(Section):
    """Instances on one network. `prfaas` clusters only prefill; `pd` clusters prefill and decode."""

    name: Name
    kind: Literal["prfaas", "pd"]
    profile: Path | None = None
    """Profile file of its instances, from which policies work out what a prompt takes there; null: a threshold alone
    decides. A relative path starts at the file's folder."""
    instances: tuple[InstanceSection, ...] = ()


class RelaySection(Section):
    """A process of ours that shapes a link on one machine; a real link needs none."""

    listen: Address
    jitter_ms: float = Field(default=0.0, ge=0)
    reset_every_s: float = Field(default=0.0, ge=0)
    """Resets every connection of this age; 0 never."""
    flip_bits_per_gb: float = Field(default=0.0, ge=0, le=1e6)
    """Single bits that it turns over, at random places, per 10⁹ bytes of either direction."""


class LinkSection(Section):
    """The way between two clusters. The numbers describe it; only a relay enforces them."""

    between: tuple[Name, Name]
    gbit_s: float = Field(gt=0)
    rtt_ms: float = Field(default=0.0, ge=0)
    usd_per_gb: float = Field(default=0.0, ge=0)
    proxy: Address | None = None
    """HTTP CONNECT proxy on the way, for control and data."""
    relay: RelaySection | None = None

    @field_validator("between")
    @classmethod
    def _two_ends(cls, value: tuple[str, str]) -> tuple[str, str]:
        if value[0] == value[1]:
            raise ValueError(f"a link joins two different clusters, not {value[0]!r} with itself")
        return value

    @property
    def name(self) -> str:
        return "--".join(self.between)

    @property
    def dial_through(self) -> str | None:
        """host:port of the CONNECT proxy that connections across this link take, if any."""
        return self.relay.listen if self.relay else self.proxy


class FleetConfig(Section):
    """A whole fleet file."""

    model: ModelSection
    router: RouterSection = RouterSection()
    policy: PolicySection = PolicySection()
    loops: LoopsSection = LoopsSection()
    admission: AdmissionSection = AdmissionSection()
    engine: EngineSection = EngineSection()
    transport: TransportSection = TransportSection()
    security: SecuritySection | None = None
    clusters: tuple[ClusterSection, ...] = Field(min_length=1)
    links: tuple[LinkSection, ...] = ()

    def cluster(self, name: str) -> ClusterSection | None:
        return next((c for c in self.clusters if c.name == name), None)

    def link(self, a: str, b: str) -> LinkSection | None:
        """The link between two clusters, in either order."""
        return next((link for link in self.links if set(link.between) == {a, b}), None)

    @property
    def router_cluster(self) -> str:
        if self.router.cluster is not None:
            return self.router.cluster
        return next((c.name for c in self.clusters if c.kind == "pd"), self.clusters[0].name)
