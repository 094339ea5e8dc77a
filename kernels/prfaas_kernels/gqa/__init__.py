"""Grouped-query attention: causal prefill, decode over pages, decode over rings of a sliding window."""

from prfaas_kernels.gqa.decode import gqa_decode, window_decode
from prfaas_kernels.gqa.prefill import gqa_prefill
from prfaas_kernels.gqa.reference import gqa_reference
from prfaas_kernels.gqa.ring import ring_read, ring_write

__all__ = ["gqa_decode", "gqa_prefill", "gqa_reference", "ring_read", "ring_write", "window_decode"]
