"""Gated delta rule: a linear attention whose state forgets by one decay per head."""

from prfaas_kernels.gated_delta_rule.cpu import gdn_decode, gdn_log_decay, gdn_prefill
from prfaas_kernels.gated_delta_rule.reference import gdn_reference

__all__ = ["gdn_decode", "gdn_log_decay", "gdn_prefill", "gdn_reference"]
