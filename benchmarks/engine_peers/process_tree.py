"""What a process and all that it started cost in CPU time. Linux only, as the rest of this benchmark."""

import os
from contextlib import suppress
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""What CPU times are counted in."""
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat after the command's name (proc(5) counts them 14 and 15)."""


def children(pid: int) -> set[int]:
    """Processes that this one started and that have not ended."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*"):
        # A thread may have ended since it was listed.
        with suppress(FileNotFoundError, ProcessLookupError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def cpu_s(pid: int) -> float:
    """User and system time so far of a process and its descendants that are still there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        below = children(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    own = (int(fields[_UTIME]) + int(fields[_STIME])) * TICK_S
    return own + sum(cpu_s(child) for child in below)
