"""Dense projection without bias."""

from prfaas_kernels.linear.cpu import linear
from prfaas_kernels.linear.packed import PackedWeight, Weight, pack_linear
from prfaas_kernels.linear.reference import linear_reference

__all__ = ["PackedWeight", "Weight", "linear", "linear_reference", "pack_linear"]
