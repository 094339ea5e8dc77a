"""What an instance counts about its prefix cache and the tier below it. Knows metric names, not what they count."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

_COUNTS = {
    "queried_tokens": ("prfaas_prefix_cache_queries_total", "Prompt tokens that were looked up"),
    "hit_tokens": ("prfaas_prefix_cache_hits_total", "Prompt tokens that were found, and not computed"),
    "evicted_blocks": ("prfaas_prefix_cache_evicted_blocks_total", "KV blocks that gave their page to something else"),
    "evicted_snapshots": ("prfaas_prefix_cache_evicted_snapshots_total", "Snapshots that gave their pages up"),
    "skipped_snapshots": ("prfaas_prefix_cache_skipped_snapshots_total", "Snapshots left out for lack of room"),
    "unknown_blocks": ("prfaas_prefix_cache_unknown_blocks_total", "Blocks to build on that the cache did not know"),
    "stale_leases": ("prfaas_prefix_cache_stale_leases_total", "Announced prefixes let go before their request came"),
}
_LEVELS = {
    "blocks": ("prfaas_prefix_cache_blocks", "KV blocks held"),
    "snapshots": ("prfaas_prefix_cache_snapshots", "Snapshots of linear states held"),
}
_DISK_COUNTS = {
    "stored": ("prfaas_disk_tier_stored_total", "KV blocks and snapshots written"),
    "stored_bytes": ("prfaas_disk_tier_stored_bytes_total", "Bytes of them"),
    "loaded": ("prfaas_disk_tier_loaded_total", "KV blocks and snapshots read back, their digests verified"),
    "loaded_bytes": ("prfaas_disk_tier_loaded_bytes_total", "Bytes of them"),
    "corrupt": ("prfaas_disk_tier_corrupt_total", "Entries that were damaged: deleted, never served"),
    "dropped": ("prfaas_disk_tier_dropped_total", "Entries that were not written because the disk could not keep up"),
    "missing": ("prfaas_disk_tier_missing_total", "Entries that were to be loaded and were not there any more"),
    "failed": ("prfaas_disk_tier_failed_total", "Entries that could not be written or read"),
    "evicted": ("prfaas_disk_tier_evicted_total", "Entries deleted to stay within the limit"),
}
_DISK_LEVELS = {
    "entries": ("prfaas_disk_tier_entries", "Entries on disk"),
    "bytes": ("prfaas_disk_tier_bytes", "Bytes of them"),
    "foreign": ("prfaas_disk_tier_foreign", "Files in the folder that are no entries of this model: never served"),
    "off": ("prfaas_disk_tier_off", "1 when writing failed and nothing is written any more"),
}


class _Readings:
    """Counters that follow running totals of another process, and gauges."""

    def __init__(
        self,
        counts: Mapping[str, tuple[str, str]],
        levels: Mapping[str, tuple[str, str]],
        registry: CollectorRegistry,
    ) -> None:
        self._counters = {key: Counter(name, text, registry=registry) for key, (name, text) in counts.items()}
        self._gauges = {key: Gauge(name, text, registry=registry) for key, (name, text) in levels.items()}
        self._totals = dict.fromkeys(counts, 0)

    def read(self, values: Mapping[str, int]) -> None:
        for key, counter in self._counters.items():
            counter.inc(values[key] - self._totals[key])
            self._totals[key] = values[key]
        for key, gauge in self._gauges.items():
            gauge.set(values[key])


class PrefixMetrics:
    """`prfaas_prefix_cache_*`, vLLM's names for the same, and `prfaas_disk_tier_*`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._prefix = _Readings(_COUNTS, _LEVELS, registry)
        self._vllm = _Readings(
            {
                "queried_tokens": ("vllm:prefix_cache_queries_total", "Prompt tokens that were looked up"),
                "hit_tokens": ("vllm:prefix_cache_hits_total", "Prompt tokens that were found"),
            },
            {},
            registry,
        )
        self._disk = _Readings(_DISK_COUNTS, _DISK_LEVELS, registry)

    def read(self, values: Mapping[str, int], disk: Mapping[str, int] | None) -> None:
        """Totals since the engine's start, by the keys above; `disk` is None without such a tier."""
        self._prefix.read(values)
        self._vllm.read(values)
        if disk is not None:
            self._disk.read(disk)
