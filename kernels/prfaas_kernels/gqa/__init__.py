"""Grouped-query attention on a CPU: the walks over blocks, pages and rings; and a layer's decode."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.gqa import decode_layer
from prfaas_kernels.gqa.layer import GqaHeads
from prfaas_kernels.gqa.prefill import gqa_prefill, gqa_prefill_pages
from prfaas_kernels.gqa.reference import gqa_reference
from prfaas_kernels.gqa.ring import ring_read, ring_write

gqa_decode_layer = dispatched(decode_layer.gqa_decode_layer)

__all__ = [
    "GqaHeads",
    "gqa_decode_layer",
    "gqa_prefill",
    "gqa_prefill_pages",
    "gqa_reference",
    "ring_read",
    "ring_write",
]
