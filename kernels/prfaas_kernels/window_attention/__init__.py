"""Attention within a sliding window whose tokens are kept in rings of state rows."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.window_attention import cpu
from prfaas_kernels.window_attention.reference import ring_reference, window_prefill_reference

window_decode = dispatched(cpu.window_decode)
window_prefill = dispatched(cpu.window_prefill)

__all__ = ["ring_reference", "window_decode", "window_prefill", "window_prefill_reference"]
