"""What the delta rules with a decay per head and per channel share in their torch form."""

from prfaas_kernels.delta_rule.chunks import ChunkProducts, prefill_in_chunks
from prfaas_kernels.delta_rule.spans import in_spans
from prfaas_kernels.delta_rule.step import decode_step, unit

__all__ = ["ChunkProducts", "decode_step", "in_spans", "prefill_in_chunks", "unit"]
