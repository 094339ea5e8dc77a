"""Waits for a connection's socket, or for a ring of its bell by another thread."""

import math
import os
import select

from prfaas.transport.channel import Channel


class Bell:
    """Wakes the thread that waits with it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def silence(self) -> None:
        os.eventfd_read(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Waiting:
    """One thread's poll over a channel and a bell."""

    def __init__(self, channel: Channel, bell: Bell) -> None:
        self._channel = channel
        self._bell = bell
        self._poll = select.poll()
        self._events = 0
        self._poll.register(channel, 0)
        self._poll.register(bell, select.POLLIN)

    def wait(self, *, read: bool, write: bool, timeout_s: float | None) -> bool:
        """Whether the channel can do one of the two, or has failed, or the bell rang, before the time was over."""
        events = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
        if events != self._events:
            self._poll.modify(self._channel, events)
            self._events = events
        timeout_ms = None if timeout_s is None else max(0, math.ceil(timeout_s * 1e3))
        found = self._poll.poll(timeout_ms)
        for fd, _ in found:
            if fd == self._bell.fileno():
                self._bell.silence()
        return bool(found)
