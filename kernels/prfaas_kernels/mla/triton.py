"""Multi-head latent attention in Triton."""

from prfaas_kernels.mla.triton_decode import mla_decode
from prfaas_kernels.mla.triton_prefill import mla_prefill

__all__ = ["mla_decode", "mla_prefill"]
