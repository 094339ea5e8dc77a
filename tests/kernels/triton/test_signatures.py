"""Every op has a Triton form that can be called as its CPU form is."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import prfaas_kernels
from prfaas_kernels.dispatch import dispatched


def ops() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Package and CPU form of everything that `dispatched` made."""
    made = dispatched(ops).__code__
    for package in pkgutil.iter_modules(prfaas_kernels.__path__, "prfaas_kernels."):
        for value in vars(importlib.import_module(package.name)).values() if package.ispkg else ():
            if getattr(value, "__code__", None) is made:
                yield package.name, value.__wrapped__


def test_triton_s_functions_have_the_signatures_of_the_cpu_s() -> None:
    found = list(ops())
    assert {cpu.__name__ for _, cpu in found} >= {"rms_norm", "apply_rotary", "apply_experts", "route"}
    for package, cpu in found:
        gpu = getattr(importlib.import_module(f"{package}.triton"), cpu.__name__)
        assert inspect.signature(gpu) == inspect.signature(cpu), f"{package}: {cpu.__name__}"
