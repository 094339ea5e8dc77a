"""Lightning attention: linear attention with one fixed decay per head."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.lightning_attention import cpu
from prfaas_kernels.lightning_attention.cpu import lightning_prefill
from prfaas_kernels.lightning_attention.reference import lightning_reference

lightning_attention = dispatched(cpu.lightning_attention)
lightning_decode = dispatched(cpu.lightning_decode)

__all__ = ["lightning_attention", "lightning_decode", "lightning_prefill", "lightning_reference"]
