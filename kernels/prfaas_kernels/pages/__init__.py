"""Rows of states, and tokens of keys and values, between the pages of a cache and dense tensors."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.pages import cpu
from prfaas_kernels.pages.reference import (
    copy_rows_reference,
    gather_rows_reference,
    gather_tokens_reference,
    scatter_rows_reference,
    scatter_tokens_reference,
    write_tokens_reference,
)

copy_rows = dispatched(cpu.copy_rows)
gather_rows = dispatched(cpu.gather_rows)
gather_tokens = dispatched(cpu.gather_tokens)
scatter_rows = dispatched(cpu.scatter_rows)
scatter_tokens = dispatched(cpu.scatter_tokens)
write_tokens = dispatched(cpu.write_tokens)

__all__ = [
    "copy_rows",
    "copy_rows_reference",
    "gather_rows",
    "gather_rows_reference",
    "gather_tokens",
    "gather_tokens_reference",
    "scatter_rows",
    "scatter_rows_reference",
    "scatter_tokens",
    "scatter_tokens_reference",
    "write_tokens",
    "write_tokens_reference",
]
