"""What instances tell a router's directory: chains of made-up blocks as the bytes of KV events. Measures nothing."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from prfaas.control.kv_decode import decode
from prfaas.control.kv_events import BlockName, BlockStored, KvBatch, encode
from prfaas.core.ids import InstanceId
from prfaas.gateway.directory import Directory

BLOCK_TOKENS = 64
MODEL = "model"
_VOCAB = 150_000
_SNAPSHOT_EVERY = 8
_BLOCKS_PER_EVENT = 256
_VLLM_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one format: `each` blocks told by an event, so many events in a message."""

    name: str
    foreign: bool
    arrays: bool
    each: int
    events: int

    @property
    def block_tokens(self) -> int:
        return _VLLM_BLOCK_TOKENS if self.foreign else BLOCK_TOKENS

    def payloads(self, rng: random.Random, blocks: int) -> list[bytes]:
        """Messages that store so many blocks, all different, tokens included."""
        return [self._payload(rng) for _ in range(blocks // (self.each * self.events))]

    def _payload(self, rng: random.Random) -> bytes:
        stored = [self._stored(rng) for _ in range(self.events)]
        if not self.arrays:
            return encode(KvBatch(0.0, tuple(stored), 0))
        return msgspec.msgpack.encode([0.0, [("BlockStored", *msgspec.structs.astuple(event)) for event in stored], 0])

    def _stored(self, rng: random.Random) -> BlockStored:
        names: list[BlockName] = [rng.getrandbits(64) if self.foreign else rng.randbytes(16) for _ in range(self.each)]
        tokens = rng.choices(range(_VOCAB), k=self.each * self.block_tokens)
        return stored(names, tokens, self.block_tokens)


STREAMS = (
    Stream("ours, a prompt's blocks at once", foreign=False, arrays=False, each=_BLOCKS_PER_EVENT, events=1),
    Stream("ours, 16 events of a block", foreign=False, arrays=False, each=1, events=16),
    Stream("vLLM, maps, 16 events of a block", foreign=True, arrays=False, each=1, events=16),
    Stream("vLLM, arrays, 16 events of a block", foreign=True, arrays=True, each=1, events=16),
)


def stored(
    names: Sequence[BlockName], tokens: Sequence[int] = (), block_tokens: int = BLOCK_TOKENS, *, state: bool = False
) -> BlockStored:
    kind = "mamba" if state else "full_attention"
    group = int(state)
    return BlockStored(
        tuple(names), None, tuple(tokens), block_tokens, None, "GPU", None, group_idx=group, kv_cache_spec_kind=kind
    )


def admitted(directory: Directory, instances: Sequence[InstanceId], block_tokens: int = BLOCK_TOKENS) -> Directory:
    for instance in instances:
        directory.admit(instance, 1, MODEL, block_tokens)
    return directory


def hold(directory: Directory, instance: InstanceId, chain: Sequence[BlockName], *, at_once: bool = True) -> None:
    """An instance tells that it holds a chain, with a snapshot after every few blocks; or block by block."""
    step = _BLOCKS_PER_EVENT if at_once else 1
    events = [stored(chain[start : start + step]) for start in range(0, len(chain), step)]
    states = chain[_SNAPSHOT_EVERY - 1 :: _SNAPSHOT_EVERY]
    directory.apply(instance, 1, [*events, *(stored([name], state=True) for name in states)])


def fill(directory: Directory, instances: Sequence[InstanceId], blocks: int, rng: random.Random) -> None:
    """So many different blocks, spread over the instances in chains, as read from messages."""
    for instance, payload in zip(_in_turn(instances), _chains(rng, blocks), strict=False):
        directory.apply(instance, 1, decode(payload).events)


def _in_turn(instances: Sequence[InstanceId]) -> Iterator[InstanceId]:
    while True:
        yield from instances


def _chains(rng: random.Random, blocks: int) -> Iterator[bytes]:
    for _ in range(0, blocks, _BLOCKS_PER_EVENT):
        names = [rng.randbytes(16) for _ in range(_BLOCKS_PER_EVENT)]
        yield encode(KvBatch(0.0, (stored(names), stored(names[-1:], state=True)), 0))
