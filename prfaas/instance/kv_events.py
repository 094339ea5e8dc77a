"""The cache's changes as KV events for routers and indexers, and a mirror of what is held for those who come late.

Knows neither the engine nor the sockets.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, assert_never

from prfaas.cache.changes import Change, Cleared, Part, Removed, Stored
from prfaas.control.kv_events import (
    FULL_ATTENTION,
    GPU,
    MAMBA,
    MLA_ATTENTION,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KvEvent,
)
from prfaas.core.ids import BlockHash
from prfaas.core.shape import ModelShape

KV_GROUP, STATE_GROUP = 0, 1
BLOCKS_PER_EVENT = 256
"""Longer chains are told in several events."""


class Publisher(Protocol):
    """Where events go: `KvPublisher`, or a list of a test's."""

    def start(self, held: Callable[[], Iterable[KvEvent]]) -> None:
        """To be called before the first batch; `held` tells what all batches so far came to."""
        ...

    def publish(self, events: Sequence[KvEvent]) -> None:
        """Sends one batch."""
        ...

    async def close(self) -> None:
        """Sends nothing any more."""
        ...


class KvEvents:
    """Tells every change, and knows at any time what they came to; its memory is bounded by the cache it mirrors."""

    def __init__(self, publisher: Publisher, block_tokens: int, kv_kind: str) -> None:
        """`kv_kind`: what vLLM calls the model's attention (`kv_kind_of`)."""
        self._publisher = publisher
        self._block_tokens = block_tokens
        self._kv_kind = kv_kind
        self._held: dict[tuple[Part, BlockHash], BlockHash | None] = {}
        """The parent of each."""

    def start(self) -> None:
        """Opens the publisher to subscribers; to be called in the event loop that `take` is called in."""
        self._publisher.start(self.held)

    async def close(self) -> None:
        await self._publisher.close()

    def take(self, changes: Sequence[Change]) -> None:
        """Publishes what has changed, in order, as one batch."""
        for change in changes:
            self._note(change)
        if events := list(self._events(changes)):
            self._publisher.publish(events)

    def held(self) -> Iterator[KvEvent]:
        """All that is held at this call, by name alone, without tokens; in the order in which it was stored."""
        now = list(self._held.items())
        return self._events(Stored(part, name, parent, ()) for (part, name), parent in now)

    def _note(self, change: Change) -> None:
        match change:
            case Stored(part, name, parent):
                self._held[part, name] = parent
            case Removed(part, name):
                self._held.pop((part, name), None)
            case Cleared():
                self._held.clear()
            case _:
                assert_never(change)

    def _events(self, changes: Iterable[Change]) -> Iterator[KvEvent]:
        for run in _runs(changes):
            match run[0]:
                case Stored():
                    yield self._stored([change for change in run if isinstance(change, Stored)])
                case Removed(part):
                    names = tuple(change.block_hash for change in run if isinstance(change, Removed))
                    yield BlockRemoved(names, GPU, KV_GROUP if part == "kv" else STATE_GROUP)
                case Cleared():
                    yield AllBlocksCleared()
                case _:
                    assert_never(run[0])

    def _stored(self, run: Sequence[Stored]) -> BlockStored:
        is_kv = run[0].part == "kv"
        return BlockStored(
            block_hashes=tuple(change.block_hash for change in run),
            parent_block_hash=run[0].parent,
            token_ids=tuple(token for change in run for token in change.token_ids),
            block_size=self._block_tokens,
            lora_id=None,
            medium=GPU,
            lora_name=None,
            group_idx=KV_GROUP if is_kv else STATE_GROUP,
            kv_cache_spec_kind=self._kv_kind if is_kv else MAMBA,
        )


def kv_kind_of(shape: ModelShape) -> str:
    """vLLM's name for the attention whose KV the blocks of a model hold."""
    kinds = {shape.layers[i].kind for i in shape.paged_layers}
    return MLA_ATTENTION if kinds == {"mla"} else FULL_ATTENTION


def _runs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Neighbours that one event can tell."""
    run: list[Change] = []
    for change in changes:
        if run and (len(run) == BLOCKS_PER_EVENT or not _joins(run[-1], change)):
            yield run
            run = []
        run.append(change)
    if run:
        yield run


def _joins(last: Change, change: Change) -> bool:
    match last, change:
        case Stored("kv", before), Stored("kv", _, parent):
            return parent == before
        case Removed(part), Removed(other):
            return part == other
        case _:
            return False
