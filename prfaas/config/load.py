"""Reads a fleet file, whose relative paths start at its folder."""

from collections.abc import Sequence
from pathlib import Path

from prfaas.config.checks import check
from prfaas.config.sections import ClusterSection, EngineSection, FleetConfig, SecuritySection
from prfaas.config.yaml_file import Kind, read_model

_FLEET = Kind("fleet file", "model: and clusters:", FleetConfig, check)


def load(path: Path, overrides: Sequence[str] = ()) -> FleetConfig:
    """The fleet that `path` describes. `overrides` are `dotted.key=value`, values in YAML. Raises ConfigError."""
    return _anchored(read_model(path, _FLEET, overrides), path)


def _anchored(config: FleetConfig, path: Path) -> FleetConfig:
    """Relative paths start at the file's folder, so that a fleet file works from any working directory."""
    folder = path.resolve().parent
    clusters = tuple(_anchored_cluster(cluster, folder) for cluster in config.clusters)
    model = config.model.model_copy(update={"path": _from(folder, config.model.path)})
    engine = _anchored_engine(config.engine, folder)
    security = config.security and _anchored_security(config.security, folder)
    return config.model_copy(update={"model": model, "engine": engine, "clusters": clusters, "security": security})


def _anchored_cluster(cluster: ClusterSection, folder: Path) -> ClusterSection:
    instances = tuple(
        instance.model_copy(update={"engine": instance.engine and _anchored_engine(instance.engine, folder)})
        for instance in cluster.instances
    )
    profile = cluster.profile and _from(folder, cluster.profile)
    return cluster.model_copy(update={"instances": instances, "profile": profile})


def _anchored_engine(engine: EngineSection, folder: Path) -> EngineSection:
    if emulated := engine.emulated:
        emulated = emulated.model_copy(update={"profile": _from(folder, emulated.profile)})
        engine = engine.model_copy(update={"emulated": emulated})
    prefixes = engine.prefix_cache
    if prefixes.disk is None:
        return engine
    disk = prefixes.disk.model_copy(update={"path": _from(folder, prefixes.disk.path)})
    return engine.model_copy(update={"prefix_cache": prefixes.model_copy(update={"disk": disk})})


def _anchored_security(security: SecuritySection, folder: Path) -> SecuritySection:
    given = {key: getattr(security, key) for key in ("ca", "cert", "key")}
    return security.model_copy(update={key: _from(folder, path) for key, path in given.items() if path is not None})


def _from(folder: Path, path: Path) -> Path:
    return (folder / path.expanduser()).resolve()
