"""Short causal depthwise convolution with fused SiLU and a carried state."""

from prfaas_kernels.causal_conv1d.cpu import conv_decode, conv_prefill
from prfaas_kernels.causal_conv1d.reference import conv_reference

__all__ = ["conv_decode", "conv_prefill", "conv_reference"]
