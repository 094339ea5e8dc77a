"""Every metric of prfaas, here and in the modules beside it; docs/metrics.md is this table in words.

Names starting with `vllm:` repeat ours for dashboards and endpoint pickers that already read them.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from prfaas.telemetry.admission_metrics import AdmissionMetrics
from prfaas.telemetry.connection_metrics import ConnectionMetrics
from prfaas.telemetry.emulation_metrics import EmulationMetrics
from prfaas.telemetry.hit_metrics import HitMetrics
from prfaas.telemetry.link_metrics import LinkMetrics, RouterLinkMetrics
from prfaas.telemetry.loop_metrics import RouterLoopMetrics
from prfaas.telemetry.prefix_fetch_metrics import PrefixFetchMetrics
from prfaas.telemetry.prefix_metrics import PrefixMetrics
from prfaas.telemetry.role_metrics import RoleMetrics, RouterRoleMetrics
from prfaas.telemetry.security_metrics import SecurityMetrics
from prfaas.telemetry.watch_metrics import WatchMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576)


class RouterMetrics:
    """What a router counts. `decision` is local or remote; `code` is a code of `prfaas.core.errors` or "ok"."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.security = SecurityMetrics(registry)
        self.admission = AdmissionMetrics(registry)
        self.connections = ConnectionMetrics(registry)
        self.requests = Counter(
            "prfaas_router_requests_total", "HTTP requests answered", ["endpoint", "status"], registry=registry
        )
        self.placements = Counter(
            "prfaas_router_placements_total",
            "Placements, by where the prompt was sent",
            ["decision", "prefill_cluster"],
            registry=registry,
        )
        self.retries = Counter(
            "prfaas_router_retries_total", "Requests placed again after a failure", ["code"], registry=registry
        )
        self.failures = Counter(
            "prfaas_router_failures_total", "Requests that ended in an error", ["code"], registry=registry
        )
        self.disconnects = Counter(
            "prfaas_router_client_disconnects_total", "Clients that left before their answer ended", registry=registry
        )
        self.streams_lost = Counter(
            "prfaas_router_streams_lost_total",
            "Streams to decode instances that ended unasked, each with all its requests",
            ["code"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "prfaas_router_fallbacks_total",
            "Requests placed on another prefill instance and yet prefilled by decode",
            ["code"],
            registry=registry,
        )
        self.in_flight = Gauge("prfaas_router_requests_in_flight", "Requests being served", registry=registry)
        self.ttft = Histogram(
            "prfaas_router_time_to_first_token_seconds",
            "Arrival to first token, by where the prompt was prefilled",
            ["decision"],
            buckets=SECONDS,
            registry=registry,
        )
        self.vllm_ttft = Histogram(
            "vllm:time_to_first_token_seconds", "Arrival to first token", buckets=SECONDS, registry=registry
        )
        self.prompt_tokens = Histogram(
            "prfaas_router_prompt_tokens", "Prompt lengths", buckets=TOKENS, registry=registry
        )
        self.instances = Gauge(
            "prfaas_router_instances", "Registered instances", ["cluster", "role", "state"], registry=registry
        )
        self.hits = HitMetrics(registry)
        self.kv_events = Counter(
            "prfaas_router_kv_events_total",
            "Events about cached blocks received from instances",
            registry=registry,
        )
        self.kv_gaps = Counter(
            "prfaas_router_kv_gaps_total",
            "Holes noticed in the numbers of KV events",
            registry=registry,
        )
        self.kv_replays = Counter(
            "prfaas_router_kv_replays_total",
            "Times that lost KV events were repeated",
            registry=registry,
        )
        self.kv_snapshots = Counter(
            "prfaas_router_kv_snapshots_total",
            "Times that an instance told all that it holds",
            registry=registry,
        )
        self.kv_faults = Counter(
            "prfaas_router_kv_faults_total",
            "Times that following an instance's KV events broke",
            registry=registry,
        )
        self.kv_unusable = Counter(
            "prfaas_router_kv_unusable_blocks_total",
            "Blocks of engines with names of their own that cannot be used: unnamed or private",
            ["why"],
            registry=registry,
        )
        self.directory_dropped = Counter(
            "prfaas_router_directory_dropped_total",
            "Entries that the directory had no room for",
            registry=registry,
        )
        self.announce_failures = Counter(
            "prfaas_router_announce_failures_total",
            "Announcements of a request that its prefill instance did not get",
            ["code"],
            registry=registry,
        )
        self.cache_transfers = Counter(
            "prfaas_router_cache_transfers_total",
            "Cached prefixes that were to go to another instance for a request",
            ["source_cluster", "prefill_cluster"],
            registry=registry,
        )
        self.directory = Gauge(
            "prfaas_router_directory_entries",
            "Cached blocks (kv) and snapshots (state) that the directory knows, over all instances",
            ["part"],
            registry=registry,
        )
        self.links = RouterLinkMetrics(registry)
        self.loops = RouterLoopMetrics(registry)
        self.roles = RouterRoleMetrics(registry)
        self.watch = WatchMetrics(registry)


class InstanceMetrics:
    """What a prefill or decode instance counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.security = SecurityMetrics(registry)
        self.requests = Counter(
            "prfaas_requests_total", "Requests ended here, by kind and outcome", ["kind", "code"], registry=registry
        )
        self.fallbacks = Counter(
            "prfaas_prefill_fallbacks_total",
            "Prompts prefilled here because a transfer did not commit",
            ["code"],
            registry=registry,
        )
        self.verified_tokens = Counter(
            "prfaas_prefill_verified_tokens_total",
            "Prompt tokens that were not computed again, since their KV had come before the rest failed to",
            registry=registry,
        )
        self.transfers = Counter(
            "prfaas_kv_transfers_total", "KV transfers ended", ["direction", "code"], registry=registry
        )
        self.kv_bytes = Counter("prfaas_kv_bytes_total", "KV payload bytes", ["direction", "stage"], registry=registry)
        self.transfer_seconds = Histogram(
            "prfaas_kv_transfer_seconds",
            "First object to commit, as the receiver sees it",
            buckets=SECONDS,
            registry=registry,
        )
        self.kv_codecs = Gauge(
            "prfaas_kv_codecs",
            "1 for each codec that is to be had here, 0 for the others",
            ["codec"],
            registry=registry,
        )
        self.connections = Gauge("prfaas_kv_connections", "Open data connections", ["direction"], registry=registry)
        self.corrupt_frames = Counter(
            "prfaas_kv_corrupt_frames_total", "Received objects that were asked for again", registry=registry
        )
        self.duplicate_bytes = Counter(
            "prfaas_kv_duplicate_bytes_total", "Payload received of objects that were there already", registry=registry
        )
        self.ejections = Counter(
            "prfaas_kv_ejections_total",
            "Connections and peers that were ejected because they brought corrupt objects",
            ["what"],
            registry=registry,
        )
        self.refused = Counter(
            "prfaas_kv_refused_total",
            "Connections and transfers that were refused to their sender",
            ["code"],
            registry=registry,
        )
        self.kv_resent = Counter(
            "prfaas_kv_resent_bytes_total",
            "KV payload bytes sent again: lost with a connection, or corrupt on arrival",
            ["reason"],
            registry=registry,
        )
        self.kv_reconnects = Counter(
            "prfaas_kv_reconnects_total", "Data connections made again after one was lost", registry=registry
        )
        self.steps = Counter("prfaas_engine_steps_total", "Engine steps run", registry=registry)
        self.step_seconds = Histogram(
            "prfaas_engine_step_seconds", "Time of one engine step", buckets=SECONDS, registry=registry
        )
        self.forward_seconds = Histogram(
            "prfaas_engine_forward_seconds",
            "Time of one engine step inside the model",
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter("prfaas_engine_tokens_total", "Tokens computed, by phase", ["phase"], registry=registry)
        self.engine_failures = Counter(
            "prfaas_engine_failures_total",
            "Requests that the engine failed: logits that are not finite (nan), or a step that raised (step)",
            ["reason"],
            registry=registry,
        )
        self.engine_device = Gauge(
            "prfaas_engine_device",
            "1 for the device that the model computes on: cpu, or a GPU by its name",
            ["device"],
            registry=registry,
        )
        self.compiled_kernels = Gauge(
            "prfaas_compiled_kernels",
            "1 when the CPU kernels are compiled for this machine, 0 when torch's operations stand in",
            registry=registry,
        )
        self.emulation = EmulationMetrics(registry)
        self.preemptions = Counter(
            "prfaas_preemptions_total", "Times that a running request gave its pages up to others", registry=registry
        )
        self.pages_used = Gauge("prfaas_pages_used", "Pages that requests hold", registry=registry)
        self.pages_total = Gauge("prfaas_pages_total", "Pages of the pool", registry=registry)
        self.pages_cached = Gauge(
            "prfaas_pages_cached", "Pages that hold cached prefixes and that nothing uses now", registry=registry
        )
        self.prefix = PrefixMetrics(registry)
        self.prefix_fetches = PrefixFetchMetrics(registry)
        self.links = LinkMetrics(registry)
        self.roles = RoleMetrics(registry)
        self.waiting = Gauge("prfaas_requests_waiting", "Requests waiting for pages", registry=registry)
        self.running = Gauge("prfaas_requests_running", "Requests that hold pages", registry=registry)
        self.vllm_waiting = Gauge("vllm:num_requests_waiting", "Requests waiting for pages", registry=registry)
        self.vllm_running = Gauge("vllm:num_requests_running", "Requests that hold pages", registry=registry)
        self.vllm_cache_usage = Gauge("vllm:kv_cache_usage_perc", "Share of pages in use, 0 to 1", registry=registry)

    def stepped(self, seconds: float, forward_seconds: float, decode_tokens: int, prefill_tokens: int) -> None:
        """Counts an engine step."""
        self.steps.inc()
        self.step_seconds.observe(seconds)
        self.forward_seconds.observe(forward_seconds)
        self.tokens.labels("decode").inc(decode_tokens)
        self.tokens.labels("prefill").inc(prefill_tokens)

    def read(self, pages_used: int, pages_cached: int, pages_total: int) -> None:
        """Sets the gauges of the pool."""
        self.pages_used.set(pages_used)
        self.pages_cached.set(pages_cached)
        self.pages_total.set(pages_total)
        self.vllm_cache_usage.set(pages_used / pages_total if pages_total else 0.0)

    def queues(self, waiting: int, running: int) -> None:
        """Sets the gauges of the queues."""
        for gauge in (self.waiting, self.vllm_waiting):
            gauge.set(waiting)
        for gauge in (self.running, self.vllm_running):
            gauge.set(running)
