"""Preallocated memory for received payloads that must be decoded before they are placed. Knows no frames."""

import threading


class StagingArena:
    """Buffers of one frame each. Whoever needs one while none is free waits, and so, through TCP, does its sender."""

    def __init__(self, total_bytes: int, buffer_bytes: int) -> None:
        num_buffers = max(1, total_bytes // buffer_bytes)
        whole = memoryview(bytearray(num_buffers * buffer_bytes))
        # The last one given back is the next one taken, so that a quiet receiver touches little of the arena.
        self._free = [whole[i * buffer_bytes : (i + 1) * buffer_bytes] for i in range(num_buffers)]
        self._num_buffers = num_buffers
        self._changed = threading.Condition()
        self._closed = False

    @property
    def num_taken(self) -> int:
        """Buffers in use."""
        return self._num_buffers - len(self._free)

    def take(self) -> memoryview | None:
        """A buffer, to be given back; None once the arena was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            return None if self._closed else self._free.pop()

    def give(self, buffer: memoryview) -> None:
        """Returns the very object that `take` gave."""
        with self._changed:
            self._free.append(buffer)
            self._changed.notify()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
