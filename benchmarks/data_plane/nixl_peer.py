"""One end of NIXL over UCX's TCP transport, for the interpreter that has it: `-m … ROLE BYTES`.

The sender writes a prompt's bytes into the receiver's registered memory, in pieces, and returns when they are there.
UCX_TLS=tcp must be set by the caller: UCX reads it when it is loaded.
"""

import base64
import ctypes
import importlib
import sys
import time
from typing import Any

from benchmarks.data_plane.peer_lines import cpu_s, digest, hear, page_memory, pieces, say


def main() -> None:
    role, num_bytes = sys.argv[1], int(sys.argv[2])
    nixl = importlib.import_module("nixl._api")
    agent = nixl.nixl_agent(role, nixl.nixl_agent_config(backends=["UCX"]))
    memory = page_memory(num_bytes, random=role == "send")
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert agent.register_memory([(start, num_bytes, 0, "")], "DRAM"), "NIXL does not register memory"
    say(address=base64.b64encode(agent.get_agent_metadata()).decode(), start=start)
    sender = None
    while (order := hear()) is not None:
        if order["do"] == "digest":
            say(digest=digest(memory))
        elif order["do"] == "cpu":
            say(cpu_s=cpu_s())
        else:
            sender = sender or Sender(agent, start, num_bytes, order)
            sender.send(order["prompts"])


class Sender:
    """A transfer that was prepared once, as engines that reuse their memory do."""

    def __init__(self, agent: Any, start: int, num_bytes: int, order: dict[str, Any]) -> None:
        self._agent = agent
        peer = agent.add_remote_agent(base64.b64decode(order["address"]))
        name = peer.decode() if isinstance(peer, bytes) else peer
        ours, theirs = (
            agent.get_xfer_descs([(first + at, size, 0) for at, size in pieces(num_bytes)], "DRAM")
            for first in (start, order["start"])
        )
        self._handle = agent.initialize_xfer("WRITE", ours, theirs, name)

    def send(self, prompts: int) -> None:
        started, spent_s = time.perf_counter(), cpu_s()
        for _ in range(prompts):
            state = self._agent.transfer(self._handle)
            while state == "PROC":
                time.sleep(0.0002)  # its progress thread moves the bytes
                state = self._agent.check_xfer_state(self._handle)
            assert state == "DONE", state
        say(seconds=time.perf_counter() - started, cpu_s=cpu_s() - spent_s)


main()
