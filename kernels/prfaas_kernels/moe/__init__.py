"""Mixture of experts: group-limited sigmoid router, and experts applied to the tokens that chose them."""

from prfaas_kernels.moe.cpu import apply_experts, route
from prfaas_kernels.moe.reference import apply_experts_reference, route_reference
from prfaas_kernels.moe.routing import Routing

__all__ = ["Routing", "apply_experts", "apply_experts_reference", "route", "route_reference"]
