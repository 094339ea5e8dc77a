"""Kimi Delta Attention: a gated delta rule with one decay per channel."""

from prfaas_kernels.kimi_delta_attention.cpu import kda_decode, kda_log_decay, kda_prefill
from prfaas_kernels.kimi_delta_attention.reference import kda_reference

__all__ = ["kda_decode", "kda_log_decay", "kda_prefill", "kda_reference"]
