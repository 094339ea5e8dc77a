"""Multi-head latent attention over cached latents."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.mla import cpu
from prfaas_kernels.mla.cpu import mla_prefill_pages
from prfaas_kernels.mla.reference import mla_reference

mla_decode = dispatched(cpu.mla_decode)
mla_prefill = dispatched(cpu.mla_prefill)

__all__ = ["mla_decode", "mla_prefill", "mla_prefill_pages", "mla_reference"]
