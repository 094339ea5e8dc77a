"""Grouped-query attention of single tokens over keys and values in pages, whole or as a part to be merged."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.paged_decode_attention import cpu
from prfaas_kernels.paged_decode_attention.reference import paged_decode_attention_reference

paged_decode_attention = dispatched(cpu.paged_decode_attention)
paged_decode_partial = dispatched(cpu.paged_decode_partial)

__all__ = ["paged_decode_attention", "paged_decode_attention_reference", "paged_decode_partial"]
