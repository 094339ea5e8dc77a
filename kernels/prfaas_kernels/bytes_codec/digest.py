"""xxh3-64 of bytes that lie in many places, in one call that holds no interpreter's lock."""

from array import array
from collections.abc import Sequence
from ctypes import CDLL, addressof, c_char, c_char_p, c_int
from pathlib import Path
from struct import Struct

import xxhash

from prfaas_kernels.bytes_codec.addresses import address_of
from prfaas_kernels.toolchain import load

LEAST_PART_BYTES = 1 << 14
"""On average; for smaller parts `xxhash`, part by part, is as fast as looking for the address of each."""

_XXH3 = Struct("2qqq")
"""`Xxh3` of native/xxh3.cpp."""


class SpansDigest:
    """A function of the parts. May be called from many threads at once.

    `xxhash` gives the lock up at every part, and a thread that has it back waits up to `sys.getswitchinterval` each
    time while another one computes: pages of 64 tokens are parts of some tens of KiB.
    """

    def __init__(self, library: CDLL) -> None:
        self._run = library["xxh3_64"]
        self._run.argtypes, self._run.restype = (c_char_p, c_int), None

    @classmethod
    def open(cls, directory: Path | None = None, compiler: str = "g++") -> "SpansDigest":
        """Compiles the kernels on first use. Raises BuildError where that is impossible."""
        return cls(load(directory, compiler))

    def __call__(self, parts: Sequence[bytes | bytearray | memoryview]) -> int:
        """xxh3-64, seed 0, over the parts in order."""
        lengths = array("q", [memoryview(part).nbytes for part in parts])
        total = sum(lengths)
        if total < LEAST_PART_BYTES * len(parts) or len(parts) <= 1:
            digest = xxhash.xxh3_64()
            for part in parts:
                digest.update(part)
            return digest.intdigest()
        starts = array("q", [_address(part) for part in parts])
        result = array("Q", [0])
        places = starts.buffer_info()[0], lengths.buffer_info()[0], total, result.buffer_info()[0]
        self._run(_XXH3.pack(*places), 1)
        return result[0]


def _address(part: bytes | bytearray | memoryview) -> int:
    try:
        # A third of the time that numpy takes; of writable memory only.
        return addressof(c_char.from_buffer(part))
    except (TypeError, ValueError):
        return address_of(memoryview(part))
