"""One token of each of several sequences through all that an attention layer does between its projections."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.gqa_decode_layer import cpu
from prfaas_kernels.gqa_decode_layer.layer import GqaHeads

gqa_decode_layer = dispatched(cpu.gqa_decode_layer)

__all__ = ["GqaHeads", "gqa_decode_layer"]
