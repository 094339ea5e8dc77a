"""Kimi Delta Attention: a gated delta rule with one decay per channel."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.kimi_delta_attention import cpu
from prfaas_kernels.kimi_delta_attention.cpu import kda_decode, kda_prefill
from prfaas_kernels.kimi_delta_attention.reference import kda_reference

kda_log_decay = dispatched(cpu.kda_log_decay)
kimi_delta_attention = dispatched(cpu.kimi_delta_attention)

__all__ = ["kda_decode", "kda_log_decay", "kda_prefill", "kda_reference", "kimi_delta_attention"]
