"""Which cases there are: those of every module in `cases`. Runs none."""

import importlib
import pkgutil
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType

from benchmarks.kernels import cases
from benchmarks.kernels.case import Case, CpuCase


@dataclass(frozen=True, slots=True)
class Place:
    """Where another process finds a case again: cases hold functions, which cannot be sent."""

    module: str
    index: int

    @property
    def case(self) -> Case:
        found: Case = _module(self.module).CASES[self.index]
        return found


def all_cases(ops: Collection[str] = ()) -> list[Place]:
    """Of all ops, or of these."""
    places = [Place(name, i) for name in _names() for i in range(len(getattr(_module(name), "CASES", ())))]
    return [place for place in places if not ops or place.case.op in ops]


def all_cpu_cases(ops: Collection[str] = ()) -> list[CpuCase]:
    """Of all ops, or of these."""
    found = [case for name in _names() for case in getattr(_module(name), "CPU_CASES", ())]
    return [case for case in found if not ops or case.op in ops]


def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(cases.__path__))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{cases.__name__}.{name}")
