"""Kernels in C++ that ops use instead of chains of torch calls, once a process has enabled them."""

from prfaas_kernels.native.numbers import NOTHING, numbers, rows
from prfaas_kernels.native.shared_library import active, call, disable, enable, takes
from prfaas_kernels.toolchain import BuildError

__all__ = ["NOTHING", "BuildError", "active", "call", "disable", "enable", "numbers", "rows", "takes"]
