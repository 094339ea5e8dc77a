"""Gated delta rule: a linear attention whose state forgets by one decay per head."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.gated_delta_rule import cpu
from prfaas_kernels.gated_delta_rule.cpu import gdn_decode, gdn_prefill
from prfaas_kernels.gated_delta_rule.reference import gdn_reference

gated_delta_rule = dispatched(cpu.gated_delta_rule)
gdn_log_decay = dispatched(cpu.gdn_log_decay)

__all__ = ["gated_delta_rule", "gdn_decode", "gdn_log_decay", "gdn_prefill", "gdn_reference"]
