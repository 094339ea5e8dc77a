"""Reads a YAML file into a frozen model: `--set` overrides, then validation; every fault is reported with its line."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from prfaas.config.fault import Fault
from prfaas.core.errors import ConfigError

Lines = dict[tuple[str | int, ...], int]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """A kind of file: what it is called, the keys that it must have, its model, and the check over its sections."""

    name: str
    keys: str
    model: type[M]
    check: Callable[[M], list[Fault]]


def read_model(path: Path, kind: Kind[M], overrides: Sequence[str] = ()) -> M:
    """What `path` describes. `overrides` are `dotted.key=value`, values in YAML. Raises ConfigError with all faults."""
    raw, lines, faults = _read(path, kind)
    _check_kind(path, raw, kind)
    overridden = [_override(raw, text) for text in overrides]
    read, wrong = _validate(raw, kind)
    faults += wrong
    if faults:
        raise ConfigError(_report(path, faults, lines, overridden))
    assert read is not None
    return read


def _read(path: Path, kind: Kind[M]) -> tuple[dict[str, Any], Lines, list[Fault]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give an existing {kind.name}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; give a {kind.name}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8 ({error.reason}); give a {kind.name}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a {kind.name}; it must hold sections such as {kind.keys}")
    lines: Lines = {}
    repeated: list[Fault] = []
    _index(node, (), lines, repeated)
    return raw, lines, repeated


def _check_kind(path: Path, raw: dict[str, Any], kind: Kind[M]) -> None:
    """A file of another kind is told in one line, rather than by a fault for each of its keys."""
    fields = kind.model.model_fields
    strange = [f"{key}:" for key in raw if key not in fields]
    missing = [f"{name}:" for name, field in fields.items() if field.is_required() and name not in raw]
    if len(strange) > 1 and missing:
        raise ConfigError(f"{path} has {', '.join(strange)} and lacks {', '.join(missing)}; give a {kind.name}")


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
        raise ConfigError(f"--set {text!r} is not KEY=VALUE, e.g. --set links.0.gbit_s=10")
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


def _validate(raw: dict[str, Any], kind: Kind[M]) -> tuple[M | None, list[Fault]]:
    try:
        read = kind.model.model_validate(raw)
    except ValidationError as error:
        faults = [Fault(tuple(e["loc"]), _readable(e["type"], e["msg"])) for e in error.errors()]
        return None, faults + _hidden_faults(raw, faults, kind)
    return read, kind.check(read)


def _hidden_faults(raw: dict[str, Any], faults: Iterable[Fault], kind: Kind[M]) -> list[Fault]:
    """What `check` finds once the faulty keys are left out, so that one run reports as much as it can."""
    rest = copy.deepcopy(raw)
    for fault in faults:
        target: Any = rest
        for part in fault.path[:-1]:
            target = _child(target, part)
        if isinstance(target, dict):
            target.pop(fault.path[-1], None)
    try:
        return kind.check(kind.model.model_validate(rest))
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
