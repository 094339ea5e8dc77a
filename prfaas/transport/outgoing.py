"""A transfer on the sending side, as the peer's threads see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.wire.header import Codec
from prfaas.wire.messages import Open
from prfaas.wire.sending import SendSession

OnDone = Callable[[PrfaasError | None], None]
"""Called once, on any thread: None after the receiver's commit, else why there is none. It must not block."""


@dataclass(frozen=True, slots=True)
class Payload:
    """An object's bytes for the wire; `raw_bytes` is their size before encoding, never below theirs."""

    codec: Codec
    raw_bytes: int
    parts: Sequence[memoryview]


class Source(Protocol):
    """One object's bytes at the sender; they stay as they are until the transfer's `on_done` was called."""

    def payload(self, staging: memoryview) -> Payload:
        """The bytes to send, the same at every call: views of the cache, or what was encoded into `staging`.

        Called on the thread of a connection, just before the object leaves. `staging` has room for a frame and belongs
        to the caller again as soon as the frame has been sent.
        """
        ...


@dataclass(slots=True, eq=False)
class OutgoingTransfer:
    """One ticket's life on the sending side; the peer's threads change it."""

    transfer_id: TransferId
    epoch: int
    opening: Open
    on_done: OnDone
    deadline_s: float = float("inf")
    """On the process's monotonic clock: of two transfers the one with the earlier deadline goes first."""
    session: SendSession = field(init=False)

    def __post_init__(self) -> None:
        self.session = SendSession(self.opening)

    @property
    def key(self) -> tuple[TransferId, int]:
        return self.transfer_id, self.epoch
