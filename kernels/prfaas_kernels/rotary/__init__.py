"""Rotary position embedding, of all or the first entries of a head."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.rotary import cpu
from prfaas_kernels.rotary.cpu import rotary_cos_sin, rotary_inverse_frequencies
from prfaas_kernels.rotary.reference import rotary_reference

apply_rotary = dispatched(cpu.apply_rotary)

__all__ = ["apply_rotary", "rotary_cos_sin", "rotary_inverse_frequencies", "rotary_reference"]
