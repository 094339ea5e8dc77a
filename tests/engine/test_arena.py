"""Shared memory without a name: the same bytes in another process, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prfaas.engine.arena import Arena

CHILD = """
import sys
from prfaas.engine.arena import Arena
arena = Arena(int(sys.argv[1]))
assert bytes(arena.memory[:5]) == b"front"
arena.memory[-6:] = b"engine"
"""


def test_a_child_sees_and_writes_the_same_bytes() -> None:
    arena = Arena.create(1 << 20)
    arena.memory[:5] = b"front"
    subprocess.run([sys.executable, "-c", CHILD, str(arena.fd)], pass_fds=(arena.fd,), check=True)
    arena.close()
    assert bytes(arena.memory[-6:]) == b"engine"


def test_a_new_block_is_zero_and_takes_no_memory() -> None:
    arena = Arena.create(1 << 40)
    assert os.fstat(arena.fd).st_blocks == 0
    assert bytes(arena.memory[1 << 39 : (1 << 39) + 8]) == bytes(8)
    arena.close()


def test_its_size_is_final() -> None:
    arena = Arena.create(4096)
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)
    arena.close()


def test_it_has_no_name_and_is_freed_with_its_last_view() -> None:
    arena = Arena.create(4096)
    inode = f" {os.fstat(arena.fd).st_ino} "

    def mapped() -> bool:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return any("prfaas-cache" in line and inode in line for line in maps)

    view = arena.memory[10:20]
    arena.close()
    arena.close()
    del arena
    assert mapped()
    assert bytes(view) == bytes(10)
    del view
    assert not mapped()
