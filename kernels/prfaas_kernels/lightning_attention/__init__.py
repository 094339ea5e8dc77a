"""Lightning attention: linear attention with one fixed decay per head."""

from prfaas_kernels.lightning_attention.cpu import lightning_decode, lightning_prefill
from prfaas_kernels.lightning_attention.reference import lightning_reference

__all__ = ["lightning_decode", "lightning_prefill", "lightning_reference"]
