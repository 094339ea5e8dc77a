"""A family's weight map checked against a checkpoint: canonical names, accepted spellings, shapes. Knows no layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.errors import ModelError
from prfaas.models.checkpoint import Checkpoint, StoredTensor

_FLOATS = {"F64", "F32", "BF16", "F16"}
_SHOWN = 5  # faults of each kind spelled out in a message; a wrong config makes thousands


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """One weight that a model needs: what it is called here, and what checkpoints may call it."""

    name: str
    shape: tuple[int, ...]
    spellings: tuple[str, ...] = ()
    """Other names that it goes by."""
    stored_shapes: tuple[tuple[int, ...], ...] = ()
    """Other shapes with as many elements that it is stored in."""
    keep_fp32: bool = False
    """Small, and sensitive: never rounded to the model's dtype."""
    unused: bool = False
    """Accepted in a checkpoint but not needed."""


@dataclass(frozen=True)
class Weights:
    """The weights of one model by canonical name; reading converts them."""

    checkpoint: Checkpoint
    dtype: torch.dtype
    specs: Mapping[str, WeightSpec]
    stored: Mapping[str, StoredTensor]

    def __getitem__(self, name: str) -> Tensor:
        """A private copy of the weight, in the spec's shape and in the model's dtype (or fp32 where the spec says)."""
        spec = self.specs[name]
        dtype = torch.float32 if spec.keep_fp32 else self.dtype
        return self.checkpoint.read(self.stored[name].name).to(dtype, copy=True).reshape(spec.shape)

    def fused(self, *names: str) -> Tensor:
        """Several weights as one, stacked along the output dimension."""
        return torch.cat([self[name] for name in names])


def match_weights(checkpoint: Checkpoint, specs: Iterable[WeightSpec], dtype: torch.dtype) -> Weights:
    """Finds each spec's tensor. Raises ModelError listing all that is missing, unexpected or unusable."""
    by_name = {spec.name: spec for spec in specs}
    stored, missing, misshapen, quantised = {}, [], [], []
    for spec in by_name.values():
        found = next((checkpoint.tensors[n] for n in (spec.name, *spec.spellings) if n in checkpoint.tensors), None)
        if found is not None:
            stored[spec.name] = found
            if found.shape not in (spec.shape, *spec.stored_shapes):
                misshapen.append(f"{found.name} is {list(found.shape)}, not {list(spec.shape)}")
            if found.dtype not in _FLOATS:
                quantised.append(f"{found.name} is {found.dtype}")
        elif not spec.unused:
            missing.append(spec.name)
    extra = sorted(set(checkpoint.tensors) - {tensor.name for tensor in stored.values()})
    faults = [
        _fault("missing", missing),
        _fault("unexpected", extra),
        _fault("of wrong shape", misshapen),
        _fault("quantised", quantised),
    ]
    if any(faults):
        raise ModelError(f"{checkpoint.directory}: tensors {'; '.join(fault for fault in faults if fault)}")
    return Weights(checkpoint, dtype, by_name, stored)


def _fault(kind: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{kind}: {', '.join(items[:_SHOWN])}{more}"
