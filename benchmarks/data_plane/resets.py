"""One long transfer through a relay that resets every connection of a certain age."""

import asyncio
import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from benchmarks.data_plane.pair import Pair
from benchmarks.data_plane.setup import Setup
from benchmarks.report import Column
from prfaas.relay.server import serve_relay
from prfaas.relay.shaping import LinkProfile

SPAWN = multiprocessing.get_context("spawn")
PROFILE = LinkProfile(gbit_s=1.0, rtt_ms=20.0, reset_every_s=2.0)
TOKENS = 192 << 10
"""1.6 GB, in one transfer."""

COLUMNS = (
    Column("bytes", "bytes", ","),
    Column("seconds", "seconds", ".1f"),
    Column("Gbit/s", "gbit_s", ".3f"),
    Column("resets", "resets"),
    Column("sent again", "bytes_again", ","),
    Column("resent\nfraction", "resent_fraction", ".2%"),
)


def measure(base: Setup, secrets: str) -> dict[str, Any]:
    """One round; it fails if the transfer does."""
    line, theirs = SPAWN.Pipe()
    relay = SPAWN.Process(target=_relay, args=(theirs,), daemon=True)
    relay.start()
    theirs.close()
    try:
        proxy = line.recv_bytes().decode()
        pair = Pair(replace(base, peer="checked", tokens=TOKENS, proxy=proxy), secrets)
        try:
            done = pair.round(1)
        finally:
            pair.close()
        line.send_bytes(b"stop")
        resets = msgspec.msgpack.decode(line.recv_bytes(), type=int)
    finally:
        relay.kill()
        relay.join()
    return {
        "bytes": done.num_bytes,
        "seconds": done.sent.seconds,
        "gbit_s": done.gbit_s,
        "resets": resets,
        "bytes_again": done.sent.bytes_again,
        "resent_fraction": done.sent.bytes_again / done.num_bytes,
    }


def _relay(line: Connection) -> None:
    asyncio.run(_serve(line))


async def _serve(line: Connection) -> None:
    relay = await serve_relay("127.0.0.1", 0, PROFILE)
    line.send_bytes(f"127.0.0.1:{relay.port}".encode())
    await asyncio.to_thread(line.recv_bytes)
    line.send_bytes(msgspec.msgpack.encode(relay.stats().resets))
    await relay.close()
