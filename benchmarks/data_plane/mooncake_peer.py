"""One end of Mooncake's transfer engine over TCP, for the interpreter that has it: `-m … ROLE BYTES`.

The sender writes a prompt's bytes into the receiver's registered memory, in pieces, and returns when they are there.
"""

import ctypes
import importlib
import sys
import time
from typing import Any

from benchmarks.data_plane.peer_lines import cpu_s, digest, hear, page_memory, pieces, say


def main() -> None:
    role, num_bytes = sys.argv[1], int(sys.argv[2])
    engine = importlib.import_module("mooncake.engine").TransferEngine()
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0, "Mooncake does not start"
    memory = page_memory(num_bytes, random=role == "send")
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert engine.register_memory(start, num_bytes) == 0, "Mooncake does not register memory"
    say(address=f"127.0.0.1:{engine.get_rpc_port()}", start=start)
    while (order := hear()) is not None:
        if order["do"] == "digest":
            say(digest=digest(memory))
        elif order["do"] == "cpu":
            say(cpu_s=cpu_s())
        else:
            send(engine, start, num_bytes, order)


def send(engine: Any, start: int, num_bytes: int, order: dict[str, Any]) -> None:
    cut = pieces(num_bytes)
    ours, theirs = [start + at for at, _ in cut], [order["start"] + at for at, _ in cut]
    sizes = [size for _, size in cut]
    started, spent_s = time.perf_counter(), cpu_s()
    for _ in range(order["prompts"]):
        assert engine.batch_transfer_sync_write(order["address"], ours, theirs, sizes) == 0, "a transfer failed"
    say(seconds=time.perf_counter() - started, cpu_s=cpu_s() - spent_s)


main()
