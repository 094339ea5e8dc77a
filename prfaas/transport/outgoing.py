"""A transfer on the sending side, as the peer's threads see it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.wire import messages

OnDone = Callable[[PrfaasError | None], None]
"""Called once, on any thread: None after the receiver's commit, else why there is none. It must not block."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the manifest says besides its objects and what the opening said."""

    first_token_id: int
    tokens_computed: int
    tokens_reused: int
    queue_ms: float
    prefill_ms: float


@dataclass(slots=True, eq=False)
class OutgoingTransfer:
    """One ticket's life on the sending side; the peer's threads change it."""

    transfer_id: TransferId
    epoch: int
    opening: messages.Open
    on_done: OnDone
    objects: list[messages.ManifestObject] = field(default_factory=list)
    bytes_wire: int = 0
    opened: bool = False
    manifest_sent: bool = False
    abandoned: bool = False
    """Nothing more of it is sent, but the writer may still be using its buffers."""
    ended: bool = False
    """`on_done` has been called."""

    @property
    def key(self) -> tuple[TransferId, int]:
        return self.transfer_id, self.epoch

    @property
    def wanted(self) -> bool:
        """There is still a point in sending it."""
        return not (self.ended or self.abandoned)
