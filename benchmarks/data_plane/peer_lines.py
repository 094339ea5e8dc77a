"""How the programs of other transfer engines talk with the benchmark: a JSON object per line, on stdin and stdout.

They run with an interpreter that has that engine and nothing that ours needs, so this file and theirs import no more.
"""

import json
import mmap
import os
import resource
import sys
import zlib
from typing import Any

PIECE_BYTES = 1 << 20


def say(**fields: Any) -> None:
    """One line on what stdout was when the program began."""
    _OUT.write(json.dumps(fields) + "\n")
    _OUT.flush()


def hear() -> dict[str, Any] | None:
    """The next order; None when there are no more."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def page_memory(num_bytes: int, *, random: bool) -> mmap.mmap:
    """Anonymous memory, written once: the kernel hands out fresh pages slowly."""
    memory = mmap.mmap(-1, num_bytes)
    block = os.urandom(PIECE_BYTES) if random else bytes(PIECE_BYTES)
    for at in range(0, num_bytes, PIECE_BYTES):
        size = min(PIECE_BYTES, num_bytes - at)
        memory[at : at + size] = block[:size]
    return memory


def pieces(num_bytes: int) -> list[tuple[int, int]]:
    """Offset and length of each."""
    return [(at, min(PIECE_BYTES, num_bytes - at)) for at in range(0, num_bytes, PIECE_BYTES)]


def cpu_s() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def digest(memory: mmap.mmap) -> int:
    return zlib.crc32(memory)


def _keep_stdout_clean() -> Any:
    """Engines log to stdout; from here on that is stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


_OUT = _keep_stdout_clean()
