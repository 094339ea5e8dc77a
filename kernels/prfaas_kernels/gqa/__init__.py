"""Grouped-query attention: causal prefill, decode over pages, decode over rings of a sliding window."""

from prfaas_kernels.gqa.decode import gqa_decode, window_decode
from prfaas_kernels.gqa.decode_layer import gqa_decode_layer
from prfaas_kernels.gqa.layer import GqaHeads
from prfaas_kernels.gqa.prefill import gqa_prefill, gqa_prefill_pages
from prfaas_kernels.gqa.reference import gqa_reference
from prfaas_kernels.gqa.ring import ring_read, ring_write

__all__ = [
    "GqaHeads",
    "gqa_decode",
    "gqa_decode_layer",
    "gqa_prefill",
    "gqa_prefill_pages",
    "gqa_reference",
    "ring_read",
    "ring_write",
    "window_decode",
]
