"""Reading a Hugging Face `config.json`: required keys, layer lists, and what is refused for every family."""

from collections.abc import Mapping, Sequence
from typing import Any

from prfaas.core.decoder_spec import Experts, Rotary
from prfaas.core.errors import ModelError, UnsupportedModelError

Raw = Mapping[str, Any]

_MOST = 10_000


def first(raw: Raw, *names: str) -> Any:
    """The value of the first of `names` that is there and not null. Raises ModelError naming them all."""
    for name in names:
        if raw.get(name) is not None:
            return raw[name]
    raise ModelError(f"config.json lacks {' (or '.join(names)}{')' * (len(names) - 1)}")


def count(raw: Raw, name: str) -> int:
    """How many there are of what is then listed one by one, within what any model has. Raises ModelError."""
    number = int(first(raw, name))
    if not 1 <= number <= _MOST:
        raise ModelError(f"config.json: {name} is {number}")
    return number


def only(raw: Raw, family: str, allowed: Raw) -> None:
    """Raises UnsupportedModelError where a key has another value than the one that is implemented."""
    for key, value in allowed.items():
        if raw.get(key, value) != value:
            raise UnsupportedModelError(f"{family} with {key} = {raw[key]!r} is not implemented, only {value!r}")


def eos_ids(raw: Raw) -> tuple[int, ...]:
    eos = raw.get("eos_token_id")
    if eos is None:
        return ()
    return tuple(int(i) for i in eos) if isinstance(eos, list) else (int(eos),)


def per_layer(raw: Raw, key: str, num_layers: int, kinds: Sequence[Any]) -> tuple[Any, ...]:
    """A list with one of `kinds` for each layer."""
    values = first(raw, key)
    unknown = [value for value in values if value not in kinds]
    if unknown or len(values) != num_layers:
        raise ModelError(f"config.json: {key} has {len(values)} entries for {num_layers} layers, unknown: {unknown}")
    return tuple(values)


def rotary(raw: Raw, head_dim: int, *, interleaved: bool = False, default_fraction: float = 1.0) -> Rotary:
    """The one rotary embedding of a config, in its old keys or in `rope_parameters`."""
    parameters = raw.get("rope_parameters") or {}
    merged = {**raw, **parameters}
    _refuse_scaling(raw.get("rope_scaling") or {}, parameters)
    fraction = float(merged.get("partial_rotary_factor") or default_fraction)
    return Rotary(int(head_dim * fraction), float(first(merged, "rope_theta")), interleaved)


def _refuse_scaling(*settings: Raw) -> None:
    for setting in settings:
        kind = setting.get("rope_type") or setting.get("type") or "default"
        if kind != "default":
            raise UnsupportedModelError(f"rotary scaling {kind!r} is not implemented, only the default")


def checked(experts: Experts) -> Experts:
    """The spec itself. Raises ModelError where the groups do not hold the experts that a token takes."""
    reachable = experts.num_experts // max(1, experts.num_groups) * experts.groups_per_token
    whole = experts.num_groups > 0 and experts.num_experts % experts.num_groups == 0
    groups = 1 <= experts.groups_per_token <= experts.num_groups
    if not whole or not groups or not 1 <= experts.per_token <= reachable:
        raise ModelError(
            f"config.json: {experts.per_token} of {experts.num_experts} experts from {experts.groups_per_token} of "
            f"{experts.num_groups} groups cannot be chosen"
        )
    return experts
