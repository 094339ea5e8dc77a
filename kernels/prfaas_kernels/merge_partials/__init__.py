"""Attention over disjoint sets of keys, joined exactly."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.merge_partials import cpu
from prfaas_kernels.merge_partials.partial import Partial

merge_partials = dispatched(cpu.merge_partials)

__all__ = ["Partial", "merge_partials"]
