"""Short causal depthwise convolution with fused SiLU and a carried state."""

from prfaas_kernels.causal_conv1d import cpu
from prfaas_kernels.causal_conv1d.cpu import conv_decode, conv_prefill
from prfaas_kernels.causal_conv1d.reference import conv_reference
from prfaas_kernels.dispatch import dispatched

causal_conv1d = dispatched(cpu.causal_conv1d)

__all__ = ["causal_conv1d", "conv_decode", "conv_prefill", "conv_reference"]
