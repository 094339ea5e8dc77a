"""Rows of states between the pages of a cache and dense tensors."""

from prfaas_kernels.pages.cpu import gather_rows, scatter_rows
from prfaas_kernels.pages.reference import gather_rows_reference, scatter_rows_reference

__all__ = ["gather_rows", "gather_rows_reference", "scatter_rows", "scatter_rows_reference"]
