"""Reads a fleet file: YAML, then `--set` overrides, then validation; every fault is reported at once with its line."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prfaas.config.checks import Fault, check
from prfaas.config.sections import ClusterSection, EngineSection, FleetConfig, SecuritySection
from prfaas.core.errors import ConfigError

Lines = dict[tuple[str | int, ...], int]


def load(path: Path, overrides: Sequence[str] = ()) -> FleetConfig:
    """The fleet that `path` describes. `overrides` are `dotted.key=value`, values in YAML. Raises ConfigError."""
    raw, lines, faults = _read(path)
    overridden = [_override(raw, text) for text in overrides]
    config, wrong = _validate(raw)
    faults += wrong
    if faults:
        raise ConfigError(_report(path, faults, lines, overridden))
    assert config is not None
    return _anchored(config, path)


def _read(path: Path) -> tuple[dict[str, Any], Lines, list[Fault]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give an existing fleet file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a fleet file; it must hold sections such as model: and clusters:")
    lines: Lines = {}
    repeated: list[Fault] = []
    _index(node, (), lines, repeated)
    return raw, lines, repeated


def _index(node: yaml.Node | None, at: tuple[str | int, ...], lines: Lines, repeated: list[Fault]) -> None:
    """Notes the line of every key and item; YAML itself lets a later key silently replace an earlier one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            where = (*at, key.value)
            if key.value in seen:
                repeated.append(Fault(where, f"the key {key.value!r} stands twice; remove one"))
            seen.add(key.value)
            lines[where] = key.start_mark.line + 1
            _index(value, where, lines, repeated)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[*at, i] = value.start_mark.line + 1
            _index(value, (*at, i), lines, repeated)


def _override(raw: dict[str, Any], text: str) -> tuple[str | int, ...]:
    """Applies one `dotted.key=value`; list items are addressed by index, e.g. `links.0.gbit_s=10`."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text!r} is not KEY=VALUE, e.g. --set router.threshold_tokens=2048")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: {value!r} is not a YAML value") from error
    path = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    target: Any = raw
    for depth, part in enumerate(path[:-1]):
        target = _descend(target, part, ".".join(map(str, path[: depth + 1])))
    try:
        target[path[-1]] = parsed
    except (IndexError, TypeError):
        raise ConfigError(f"--set {key}: there is no {key} in the file") from None
    return path


def _descend(target: Any, part: str | int, so_far: str) -> Any:
    try:
        if isinstance(target, dict):
            return target.setdefault(part, {})
        return target[part]
    except (IndexError, TypeError, KeyError):
        raise ConfigError(f"--set: there is no {so_far} in the file") from None


def _validate(raw: dict[str, Any]) -> tuple[FleetConfig | None, list[Fault]]:
    try:
        config = FleetConfig.model_validate(raw)
    except ValidationError as error:
        faults = [Fault(tuple(e["loc"]), _readable(e["type"], e["msg"])) for e in error.errors()]
        return None, faults + _hidden_faults(raw, faults)
    return config, check(config)


def _hidden_faults(raw: dict[str, Any], faults: Iterable[Fault]) -> list[Fault]:
    """What `check` finds once the faulty keys are left out, so that one run reports as much as it can."""
    rest = copy.deepcopy(raw)
    for fault in faults:
        target: Any = rest
        for part in fault.path[:-1]:
            target = _child(target, part)
        if isinstance(target, dict):
            target.pop(fault.path[-1], None)
    try:
        return check(FleetConfig.model_validate(rest))
    except ValidationError:
        return []


def _child(target: Any, part: str | int) -> Any:
    if isinstance(target, dict):
        return target.get(part)
    return target[part] if isinstance(target, list) and isinstance(part, int) and part < len(target) else None


def _readable(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    if kind == "missing":
        return "this key is required"
    return message.removeprefix("Value error, ")


def _report(path: Path, faults: Iterable[Fault], lines: Lines, overridden: Iterable[tuple[str | int, ...]]) -> str:
    from_command_line = set(overridden)
    placed = []
    for fault in faults:
        name = ".".join(map(str, fault.path))
        if any(fault.path[:n] in from_command_line for n in range(1, len(fault.path) + 1)):
            placed.append((0, f"--set {name}: {fault.message}"))
            continue
        line = next((lines[fault.path[:n]] for n in range(len(fault.path), 0, -1) if fault.path[:n] in lines), 1)
        placed.append((line, f"{path}:{line}: {name}: {fault.message}"))
    return "\n".join(text for _, text in sorted(placed))


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
    return cluster.model_copy(update={"instances": instances})


def _anchored_engine(engine: EngineSection, folder: Path) -> EngineSection:
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
