"""Rows of states, and tokens of keys and values, between the pages of a cache and dense tensors."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.pages import cpu
from prfaas_kernels.pages.reference import gather_rows_reference, scatter_rows_reference

gather_rows = dispatched(cpu.gather_rows)
scatter_rows = dispatched(cpu.scatter_rows)

__all__ = ["gather_rows", "gather_rows_reference", "scatter_rows", "scatter_rows_reference"]
