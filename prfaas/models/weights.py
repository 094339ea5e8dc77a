"""A decoder's parts found in a checkpoint: names, shapes and dtypes checked, then read on demand. Knows no layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ModelError
from prfaas.models.checkpoint import Checkpoint, StoredTensor
from prfaas.models.parts import Part, parts
from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.sources import Source, Sources

_FLOATS = {"F64", "F32", "BF16", "F16"}
_SHOWN = 5  # faults of each kind spelled out in a message; a wrong config makes thousands


@dataclass(frozen=True)
class FoundPart:
    """A part and where this checkpoint has it."""

    part: Part
    source: Source
    stored: tuple[StoredTensor, ...]


@dataclass(frozen=True)
class Weights:
    """The weights of one model by canonical name; reading converts them."""

    checkpoint: Checkpoint
    dtype: torch.dtype
    found: Mapping[str, FoundPart]

    def part(self, name: str) -> Part | None:
        """What a name stands for; None if the model has none of it."""
        return self.found[name].part if name in self.found else None

    def __getitem__(self, name: str) -> Tensor:
        """A private copy of the part, whole, in the model's dtype (or fp32 where the part says so)."""
        found = self.found[name]
        part = found.part
        tensor = found.source.build([self.checkpoint.read(stored.name) for stored in found.stored])
        if part.scale != 1.0 or part.offset != 0.0:
            tensor = tensor.float() * part.scale + part.offset
        return tensor.to(torch.float32 if part.keep_fp32 else self.dtype, copy=True).contiguous()


@dataclass
class _Faults:
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    quantised: list[str] = field(default_factory=list)

    def report(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of wrong shape": self.misshapen,
            "quantised": self.quantised,
        }
        return "; ".join(_fault(kind, items) for kind, items in kinds.items() if items)


def match_weights(checkpoint: Checkpoint, spec: DecoderSpec, family: FamilyMap, dtype: torch.dtype) -> Weights:
    """Finds each part's tensors. Raises ModelError listing all that is missing, unexpected or unusable."""
    places = family.sources(spec, checkpoint.tensors.keys())
    faults, found = _Faults(), {}
    for part in parts(spec):
        match = _find(checkpoint, part, places[part.name], faults)
        if match is not None:
            found[part.name] = match
    used = {stored.name for match in found.values() for stored in match.stored}
    faults.unexpected = sorted(set(checkpoint.tensors) - used - family.unused(spec, checkpoint.tensors.keys()))
    report = faults.report()
    if report:
        raise ModelError(f"{checkpoint.directory}: tensors {report}")
    return Weights(checkpoint, dtype, found)


def _find(checkpoint: Checkpoint, part: Part, places: Sources, faults: _Faults) -> FoundPart | None:
    tensors = checkpoint.tensors
    place = next((place for place in places if all(name in tensors for name in place.names)), None)
    if place is None:
        begun = next((place for place in places if any(name in tensors for name in place.names)), places[0])
        faults.missing.extend(name for name in begun.names if name not in tensors)
        return None
    stored = tuple(tensors[name] for name in place.names)
    faults.quantised.extend(f"{tensor.name} is {tensor.dtype}" for tensor in stored if tensor.dtype not in _FLOATS)
    shape = _built_shape(place, stored)
    if shape != part.shape:
        held = ", ".join(str(list(tensor.shape)) for tensor in stored[:2])
        faults.misshapen.append(f"{place.names[0]} is {held}, from which {list(part.shape)} cannot be made")
    return FoundPart(part, place, stored)


def _built_shape(place: Source, stored: Iterable[StoredTensor]) -> tuple[int, ...] | None:
    """What a source would build, tried on tensors without contents; None if it cannot."""
    try:
        return tuple(place.build([torch.empty(tensor.shape, device="meta") for tensor in stored]).shape)
    except (RuntimeError, IndexError):
        return None


def _fault(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{kind}: {', '.join(items[:_SHOWN])}{more}"
