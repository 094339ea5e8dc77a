"""Where a simulated instance stands in the fleet: its names, and what it does."""

from dataclasses import dataclass

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.view import ClusterKind, Role


@dataclass(frozen=True, slots=True)
class Seat:
    """One instance's place."""

    instance_id: InstanceId
    cluster: ClusterName
    kind: ClusterKind
    role: Role
