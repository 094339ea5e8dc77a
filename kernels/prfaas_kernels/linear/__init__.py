"""Dense projection without bias."""

from prfaas_kernels.linear.cpu import linear
from prfaas_kernels.linear.reference import linear_reference

__all__ = ["linear", "linear_reference"]
