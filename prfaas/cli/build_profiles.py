"""What the router knows of its instances' times and bytes before anything is measured. Measures nothing."""

from prfaas.cache.layout import lay_out
from prfaas.config.sections import ClusterSection, EmulatedSection, EngineSection, FleetConfig
from prfaas.core.ids import ClusterName
from prfaas.core.shape import ModelShape
from prfaas.gateway.blend import CacheBytes
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.planner.profiles import read_profile
from prfaas.policy.profile import Profile
from prfaas.policy.scaled import scaled


def build_profiles(config: FleetConfig, shape: ModelShape) -> LiveProfiles:
    """Raises ConfigError for a profile file that cannot be read."""
    given = {ClusterName(c.name): profile for c in config.clusters if (profile := _of_file(c, config.engine))}
    engine = config.engine
    cache = CacheBytes(
        kv_bytes_per_token=shape.kv_bytes_per_token,
        state_bytes=shape.state_bytes,
        cache_bytes=lay_out(shape, engine.page_tokens).num_bytes(engine.num_pages),
    )
    return LiveProfiles(given, cache, engine.max_running_requests)


def _of_file(cluster: ClusterSection, engine: EngineSection) -> Profile | None:
    """In our seconds and bytes: an emulated engine has others than its profile. Such an engine's own profile is the
    cluster's, where that names none."""
    emulated = _emulated(cluster, engine)
    path = cluster.profile or (emulated.profile if emulated else None)
    if path is None:
        return None
    profile = read_profile(path)
    if emulated is None:
        return profile
    return scaled(profile, time_scale=emulated.time_scale, kv_scale=emulated.kv_scale)


def _emulated(cluster: ClusterSection, engine: EngineSection) -> EmulatedSection | None:
    """Of the cluster's first instance; instances of a cluster are alike."""
    own = next((instance.engine for instance in cluster.instances if instance.engine), None)
    return (own or engine).emulated
