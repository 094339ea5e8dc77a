"""Attention within a sliding window whose tokens are kept in rings of state rows."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.window_attention import cpu

window_decode = dispatched(cpu.window_decode)
window_prefill = dispatched(cpu.window_prefill)

__all__ = ["window_decode", "window_prefill"]
