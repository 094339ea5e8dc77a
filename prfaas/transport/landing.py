"""One object's payload on its way from a connection to its place, and the fence that stops it. Knows no protocol."""

import threading
from collections.abc import Sequence

from prfaas.transport.staging import StagingArena
from prfaas.wire import receiving


class Landing:
    """Whoever writes into `views` holds `lock` and looks at `live` first: once `end` returned, nobody writes any more.

    It is ended by the connection that filled it, or by another thread that needs the memory for something else.
    """

    __slots__ = ("_arena", "_buffer", "arrival", "got", "live", "lock", "views")

    def __init__(self, arrival: receiving.Landing) -> None:
        self.arrival = arrival
        self.lock = threading.Lock()
        self.live = True
        self.views: Sequence[memoryview] = ()
        self.got = 0
        """Payload bytes that came so far."""
        self._buffer: memoryview | None = None
        self._arena: StagingArena | None = None

    @property
    def staged(self) -> memoryview | None:
        """The payload, where it has still to be decoded and placed."""
        return self.views[0] if self._buffer is not None else None

    def direct(self, views: Sequence[memoryview]) -> None:
        """The payload goes straight to where it belongs."""
        self.views = views

    def stage(self, buffer: memoryview, arena: StagingArena) -> None:
        """The payload goes to a buffer of the arena, which gets it back at the end."""
        with self.lock:
            if not self.live:
                arena.give(buffer)
                return
            self._buffer, self._arena = buffer, arena
            self.views = (buffer[: self.arrival.header.wire_bytes],)

    def end(self) -> None:
        """Nothing is written from here on; repeating it does no harm."""
        with self.lock:
            self.live = False
            buffer, self._buffer = self._buffer, None
            if buffer is not None:
                assert self._arena is not None
                self._arena.give(buffer)
