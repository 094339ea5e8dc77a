"""RMS norm, plain and gated by a sigmoid."""

from prfaas_kernels.norm.cpu import rms_norm, rms_norm_gated
from prfaas_kernels.norm.reference import rms_norm_gated_reference, rms_norm_reference

__all__ = ["rms_norm", "rms_norm_gated", "rms_norm_gated_reference", "rms_norm_reference"]
