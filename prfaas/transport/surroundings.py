"""What all connections of a data server share."""

from dataclasses import dataclass

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox
from prfaas.transport.sessions import SenderSessions
from prfaas.transport.staging import StagingArena
from prfaas.wire.header import Digest


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of one data server."""

    inbox: Inbox
    sessions: SenderSessions
    arena: StagingArena
    host: Host
    config: TransportSection
    credentials: Credentials | None
    metrics: InstanceMetrics
    clock: Clock
    digest: Digest
