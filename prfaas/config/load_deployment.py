"""Reads a deployment file, whose relative paths start at its folder."""

from collections.abc import Sequence
from pathlib import Path

from prfaas.config.deployment import DeploymentFile, TraceSection
from prfaas.config.deployment_checks import check_deployment
from prfaas.config.yaml_file import Kind, read_model

_DEPLOYMENT = Kind("deployment file", "workload: and clusters:", DeploymentFile, check_deployment)


def load_deployment(path: Path, overrides: Sequence[str] = ()) -> DeploymentFile:
    """`overrides` are `dotted.key=value`. Raises ConfigError with every fault."""
    return _anchored(read_model(path, _DEPLOYMENT, overrides), path.resolve().parent)


def _anchored(deployment: DeploymentFile, folder: Path) -> DeploymentFile:
    clusters = tuple(c.model_copy(update={"profile": _from(folder, c.profile)}) for c in deployment.clusters)
    update: dict[str, object] = {"clusters": clusters}
    if baseline := deployment.baseline:
        update["baseline"] = baseline.model_copy(update={"profile": _from(folder, baseline.profile)})
    source = deployment.workload.input
    if isinstance(source, TraceSection):
        traced = source.model_copy(update={"path": _from(folder, source.path)})
        update["workload"] = deployment.workload.model_copy(update={"input": traced})
    return deployment.model_copy(update=update)


def _from(folder: Path, path: Path) -> Path:
    return (folder / path.expanduser()).resolve()
