"""RMS norm, plain, after an addition, or gated, and the gate of a SwiGLU."""

from prfaas_kernels.norm.cpu import add_rms_norm, rms_norm, rms_norm_gated, silu_and_mul
from prfaas_kernels.norm.reference import rms_norm_gated_reference, rms_norm_reference, silu_and_mul_reference

__all__ = [
    "add_rms_norm",
    "rms_norm",
    "rms_norm_gated",
    "rms_norm_gated_reference",
    "rms_norm_reference",
    "silu_and_mul",
    "silu_and_mul_reference",
]
