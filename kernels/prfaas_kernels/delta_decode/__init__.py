"""One token of each of several sequences through all that a delta rule layer does between its projections."""

from prfaas_kernels.delta_decode import cpu
from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.dispatch import dispatched

delta_decode = dispatched(cpu.delta_decode)

__all__ = ["DeltaLayer", "delta_decode"]
