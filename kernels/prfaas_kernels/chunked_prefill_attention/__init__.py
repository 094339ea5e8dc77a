"""Causal grouped-query attention of prompts over keys and values in pages."""

from prfaas_kernels.chunked_prefill_attention import cpu
from prfaas_kernels.chunked_prefill_attention.reference import chunked_prefill_attention_reference
from prfaas_kernels.dispatch import dispatched

chunked_prefill_attention = dispatched(cpu.chunked_prefill_attention)

__all__ = ["chunked_prefill_attention", "chunked_prefill_attention_reference"]
