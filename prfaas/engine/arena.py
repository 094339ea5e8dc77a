"""One block of memory that the engine's process and the front's share. Knows nothing of what lies in it.

It has no name, only a descriptor that the child inherits, so the system frees it with the last process that maps it,
however that process ends. It begins as zeros that take no memory: pages appear when they are first written, since to
touch a large pool at the start would take minutes.
"""

import fcntl
import mmap
import os

_NEVER_RESIZED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Arena:
    """A mapping of the block behind `fd`. Views of `memory` keep the mapping alive; `close` gives up `fd` alone."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self.memory = memoryview(mmap.mmap(fd, os.fstat(fd).st_size))

    @classmethod
    def create(cls, num_bytes: int) -> "Arena":
        """A new block. Raises OSError when the system has no room for its bookkeeping."""
        fd = os.memfd_create("prfaas-cache", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, num_bytes)
        # A block that became shorter would kill with SIGBUS whoever reads beyond its end.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _NEVER_RESIZED)
        return cls(fd)

    @property
    def fd(self) -> int:
        """What a child process inherits."""
        assert self._fd is not None, "the arena is closed"
        return self._fd

    def close(self) -> None:
        """Closes the descriptor: nobody new can map the block. Once is enough, more does no harm."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
