"""A publisher of KV events without sockets, the truth about what it holds, and a wire that loses what a test says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import msgspec

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.control.kv_events import (
    SEQ_BYTES,
    SNAPSHOT_REQUEST,
    AllBlocksCleared,
    BlockName,
    BlockRemoved,
    BlockStored,
    KvBatch,
    KvEvent,
    encode,
)
from prfaas.control.kv_order import Numbered
from prfaas.core.ids import BlockHash

Format = Literal["ours", "maps", "arrays"]
"""The latter two with names of the engine's own, as 32 bytes and as integers; who sends them has no snapshots."""

BLOCK_TOKENS = 2
FINGERPRINT = "f"
SHARED_BLOCKS = 3
CHAINS = tuple(tuple(range(6)) + tuple(range(100 * i, 100 * i + 10)) for i in (1, 2))
"""Tokens of two prompts with a common beginning of `SHARED_BLOCKS`."""
KINDS = ("full_attention", "mamba")


def chain_names(chain: int) -> list[BlockHash]:
    return block_hashes(root_hash(FINGERPRINT, ""), CHAINS[chain], BLOCK_TOKENS)


Holding = tuple[int, BlockHash]
"""Group (0: KV, 1: snapshots) and our name of a block."""


@dataclass
class ToldPublisher:
    """`wire` is what its connection has not delivered yet; None: nobody is connected."""

    form: Format
    buffer_batches: int
    held: set[Holding] = field(default_factory=set)
    seq: int = 0
    kept: list[tuple[int, bytes]] = field(default_factory=list)
    wire: list[Numbered] | None = None
    truths: dict[bytes, frozenset[Holding]] = field(default_factory=dict)
    """What was held after each batch, by its digest."""
    forgot: bool = False
    """Not all batches of this life can be repeated any more."""
    failing_asks: int = 0
    clock_s: int = 0
    batches: int = 0
    """Of all lives."""

    def begin(self) -> None:
        """Another life: numbers begin anew, connections break."""
        self.held, self.seq, self.kept, self.wire, self.forgot = set(), 0, [], None, False
        self.publish([AllBlocksCleared()], lost=False)

    def store(self, group: int, chain: int, first: int, blocks: int, *, lost: bool) -> None:
        names = chain_names(chain)[: first + blocks]
        told = tuple(self._told(name) for name in names[first:])
        tokens = CHAINS[chain][first * BLOCK_TOKENS : len(names) * BLOCK_TOKENS]
        parent = self._told(names[first - 1]) if first else None
        self.held |= {(group, name) for name in names[first:]}
        self.publish(
            [
                BlockStored(
                    told, parent, tokens, BLOCK_TOKENS, None, "GPU", None,
                    group_idx=group, kv_cache_spec_kind=KINDS[group],
                )
            ],
            lost=lost,
        )  # fmt: skip

    def remove(self, holding: Holding, *, lost: bool) -> None:
        self.held.discard(holding)
        self.publish([BlockRemoved((self._told(holding[1]),), "GPU", holding[0])], lost=lost)

    def clear(self, *, lost: bool) -> None:
        self.held.clear()
        self.publish([AllBlocksCleared()], lost=lost)

    def publish(self, events: Sequence[KvEvent], *, lost: bool) -> None:
        payload = self._encoded(events)
        batch = Numbered.of(self.seq.to_bytes(SEQ_BYTES, "big"), payload)
        self.truths[batch.digest] = frozenset(self.held)
        self.kept.append((self.seq, payload))
        self.forgot |= len(self.kept) > self.buffer_batches
        del self.kept[: -self.buffer_batches]
        self.seq += 1
        if self.wire is not None and not lost:
            self.wire.append(batch)

    async def ask(self, start: bytes) -> list[Numbered]:
        if self.failing_asks:
            self.failing_asks -= 1
            raise TimeoutError
        if start == SNAPSHOT_REQUEST:
            return [self._numbered(*one) for one in self._snapshot()] if self.form == "ours" else []
        return [self._numbered(*one) for one in self.kept if one[0] >= int.from_bytes(start, "big")]

    def _snapshot(self) -> Iterator[tuple[int, bytes]]:
        yield self.seq - 1, self._encoded([AllBlocksCleared()])
        for group in (0, 1):
            names = tuple(name for part, name in self.held if part == group)
            stored = BlockStored(
                names, None, (), BLOCK_TOKENS, None, "GPU", None, group_idx=group, kv_cache_spec_kind=KINDS[group]
            )
            yield self.seq - 1, self._encoded([stored])
        yield self.kept[-1]

    def _told(self, name: BlockHash) -> BlockName:
        match self.form:
            case "ours":
                return name
            case "maps":
                return sha256(name).digest()
            case "arrays":
                return int.from_bytes(name[:8], "big")

    def _encoded(self, events: Sequence[KvEvent]) -> bytes:
        """No two batches are the same, though clocks go as they like."""
        self.batches += 1
        ts = self.clock_s + self.batches * 1e-6
        if self.form != "arrays":
            return encode(KvBatch(ts, tuple(events), 0))
        rows: list[list[Any]] = [[type(event).__name__, *msgspec.structs.astuple(event)] for event in events]
        return msgspec.msgpack.encode([ts, rows])

    @staticmethod
    def _numbered(seq: int, payload: bytes) -> Numbered:
        return Numbered.of(seq.to_bytes(SEQ_BYTES, "big"), payload)
