"""RMS norm, plain, after an addition, or gated, and the gate of a SwiGLU."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.norm import cpu
from prfaas_kernels.norm.reference import rms_norm_gated_reference, rms_norm_reference, silu_and_mul_reference

add_rms_norm = dispatched(cpu.add_rms_norm)
rms_norm = dispatched(cpu.rms_norm)
rms_norm_gated = dispatched(cpu.rms_norm_gated)
silu_and_mul = dispatched(cpu.silu_and_mul)

__all__ = [
    "add_rms_norm",
    "rms_norm",
    "rms_norm_gated",
    "rms_norm_gated_reference",
    "rms_norm_reference",
    "silu_and_mul",
    "silu_and_mul_reference",
]
