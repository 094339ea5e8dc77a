"""Mixture of experts: group-limited router by sigmoid or softmax, and experts applied to the tokens that chose them."""

from prfaas_kernels.dispatch import dispatched
from prfaas_kernels.moe import cpu
from prfaas_kernels.moe.cpu import Experts
from prfaas_kernels.moe.reference import apply_experts_reference, route_reference
from prfaas_kernels.moe.routing import Routing

apply_experts = dispatched(cpu.apply_experts)
route = dispatched(cpu.route)

__all__ = ["Experts", "Routing", "apply_experts", "apply_experts_reference", "route", "route_reference"]
