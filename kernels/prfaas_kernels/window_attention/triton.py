"""Sliding windows in Triton."""

from prfaas_kernels.window_attention.triton_decode import window_decode
from prfaas_kernels.window_attention.triton_prefill import window_prefill

__all__ = ["window_decode", "window_prefill"]
