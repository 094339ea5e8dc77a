"""One token of each of several sequences through all that a delta rule layer does between its projections."""

from prfaas_kernels.delta_decode.cpu import delta_decode
from prfaas_kernels.delta_decode.layer import DeltaLayer

__all__ = ["DeltaLayer", "delta_decode"]
