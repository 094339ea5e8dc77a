"""Grouped-query attention on a CPU: walks over blocks of queries, over pages, and over rings of a sliding window."""

from prfaas_kernels.gqa.prefill import gqa_prefill, gqa_prefill_pages
from prfaas_kernels.gqa.reference import gqa_reference
from prfaas_kernels.gqa.ring import ring_read, ring_write

__all__ = ["gqa_prefill", "gqa_prefill_pages", "gqa_reference", "ring_read", "ring_write"]
