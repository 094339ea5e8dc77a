"""What instances and routers count of roles and of their changes. Knows metric names, not instances."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class RoleMetrics:
    """An instance's role."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._role = Gauge("prfaas_role", "1 for the role that the instance serves in", ["role"], registry=registry)
        self.changes = Counter(
            "prfaas_role_changes_total",
            "Changes of the role: after all requests had ended (drained), after some were cancelled (cut), or failed",
            ["outcome"],
            registry=registry,
        )

    def serves(self, role: str) -> None:
        """Sets the gauge of the role."""
        self._role.clear()
        self._role.labels(role).set(1)


class RouterRoleMetrics:
    """Changes that a router asks for, and how often instances tell it how they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.asked = Counter(
            "prfaas_router_role_changes_total",
            "Changes of an instance's role asked for here, by the role and whether the instance began (yes, no)",
            ["role", "began"],
            registry=registry,
        )
        self.heartbeats = Counter(
            "prfaas_router_heartbeats_total",
            "Heartbeats heard: at their time (full), or between since the load had changed (partial)",
            ["kind"],
            registry=registry,
        )
