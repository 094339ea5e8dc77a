"""Multi-head latent attention over cached latents."""

from prfaas_kernels.mla.cpu import mla_decode, mla_prefill, mla_prefill_pages
from prfaas_kernels.mla.reference import mla_reference

__all__ = ["mla_decode", "mla_prefill", "mla_prefill_pages", "mla_reference"]
