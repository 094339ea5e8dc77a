"""Which transfers were committed lately, so that a sender that missed the answer can ask again."""

import hmac
from collections import OrderedDict
from dataclasses import dataclass

from prfaas.core.errors import TicketError
from prfaas.core.ids import TransferId

TransferKey = tuple[TransferId, int]
"""Transfer and the receiver's epoch."""

CAPACITY = 4096


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a committed transfer."""

    secret: bytes
    sessions: frozenset[bytes]
    """Of the senders that had opened it."""


class Tombstones:
    """The newest `CAPACITY` commits; the owner locks."""

    def __init__(self) -> None:
        self._stones: OrderedDict[TransferKey, Tombstone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stones)

    def add(self, key: TransferKey, stone: Tombstone) -> None:
        self._stones[key] = stone
        if len(self._stones) > CAPACITY:
            self._stones.popitem(last=False)

    def committed(self, key: TransferKey, session: bytes) -> bool:
        """Whether that sender's transfer was committed."""
        stone = self._stones.get(key)
        return stone is not None and session in stone.sessions

    def asked(self, key: TransferKey, secret: bytes) -> bool:
        """Whether the transfer was committed. Raises TicketError when it was, and the secret is not its ticket's."""
        stone = self._stones.get(key)
        if stone is None:
            return False
        if not hmac.compare_digest(stone.secret, secret):
            raise TicketError("the secret is not the ticket's")
        return True
