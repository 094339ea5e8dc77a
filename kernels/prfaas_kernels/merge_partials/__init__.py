"""Attention over disjoint sets of keys, joined exactly."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.merge_partials import cpu
from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.merge_partials.reference import merge_partials_reference

merge_partials = dispatched(cpu.merge_partials)

__all__ = ["Partial", "merge_partials", "merge_partials_reference"]
