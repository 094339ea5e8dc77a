"""A transfer as the ledger of a peer keeps it: its objects' sources, and which connection carries what for it."""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.transport.outgoing import OutgoingTransfer, Source
from prfaas.wire.header import Kind, ObjectKey
from prfaas.wire.messages import Manifest, Open
from prfaas.wire.sending import SendSession


@dataclass(slots=True, eq=False)
class Delivery:
    """One transfer; changes under the ledger's lock only."""

    transfer: OutgoingTransfer
    order: int
    """Of arrival."""
    sources: dict[ObjectKey, Source] = field(default_factory=dict)
    opened: bool = False
    """The receiver may know of it."""
    open_lane: "Lane | None" = None
    """Carries an OPEN that has no answer yet."""
    ask_again: bool = False
    """A connection was lost after that OPEN had gone."""
    manifest_lane: "Lane | None" = None
    due: bool = False
    """A message of it may have to go, and the ledger has it in its list of those."""
    cancel_due: bool = False
    queued_rank: tuple[bool, float, int] | None = None
    """With which the queue of objects holds it."""
    users: int = 0
    """Connections that read its buffers now."""
    ended: bool = False
    error: PrfaasError | None = None

    @property
    def session(self) -> SendSession:
        return self.transfer.session

    @property
    def key(self) -> tuple[TransferId, int]:
        return self.transfer.key

    @property
    def rank(self) -> tuple[bool, float, int]:
        """The smaller goes first: the tail of a finished prefill, for which somebody waits, then the deadline."""
        return not self.session.finished, self.transfer.deadline_s, self.order


@dataclass(frozen=True, slots=True)
class Message:
    """A frame without an object: OPEN, MANIFEST or CANCEL (which has no payload)."""

    kind: Kind
    delivery: Delivery
    body: Open | Manifest | None


@dataclass(frozen=True, slots=True)
class Object:
    """An object that has been chosen, and whose payload is not made yet."""

    delivery: Delivery
    key: ObjectKey
    source: Source


class Sent(msgspec.Struct, frozen=True):
    """An object frame on a connection, not acknowledged yet."""

    delivery: Delivery
    key: ObjectKey
    attempt: int
    wire_bytes: int


@dataclass(slots=True, eq=False)
class Lane:
    """One welcomed connection as the ledger sees it; changes under the ledger's lock only."""

    sock: socket.socket
    wake: Callable[[], None]
    """Makes the connection's thread ask for work again; from any thread, at once."""
    sent: deque[Sent] = field(default_factory=deque)
    frames_sent: int = 0
    """Object frames that left completely."""
    frames_acknowledged: int = 0
    work: Object | None = None
    """Chosen, and not completely sent."""
    reserved_bytes: int = 0
    """Of the window, for `work` until its payload is made."""
    retiring: bool = False
    """Takes nothing new."""
    moved_s: float = 0.0
    """When something last came by it, or left it; the connection's thread writes it without the lock."""
