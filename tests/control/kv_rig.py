"""A publisher on free ports, what it holds, and a listener that keeps what it heard of it."""

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import zmq

from prfaas.control.curve import CurveKeys
from prfaas.control.kv_events import AllBlocksCleared, BlockName, BlockRemoved, BlockStored, KvEvent
from prfaas.control.kv_order import Note
from prfaas.control.kv_publisher import KvPublisher
from prfaas.control.kv_subscriber import KvSubscriber, shared_context

PROBE_S = 0.05
PATIENCE_S = 20.0

tick = itertools.count(1)
"""Time for all publishers of a test run: a later life is younger."""


def stored(*names: BlockName) -> BlockStored:
    return BlockStored(names, None, (), 4, None, "GPU", None, group_idx=0)


def removed(*names: BlockName) -> BlockRemoved:
    return BlockRemoved(names, "GPU", 0)


def apply(held: set[BlockName], events: Sequence[KvEvent]) -> None:
    """The plainest of all readers."""
    for event in events:
        match event:
            case AllBlocksCleared():
                held.clear()
            case BlockStored():
                held.update(event.block_hashes)
            case BlockRemoved():
                held.difference_update(event.block_hashes)


@dataclass
class Life:
    """One life of a publisher, and the truth about it."""

    publisher: KvPublisher
    events: str
    replay: str
    held: set[BlockName] = field(default_factory=set)
    told: list[KvEvent] = field(default_factory=list)

    def tell(self, *events: KvEvent) -> None:
        apply(self.held, events)
        self.told += events
        self.publisher.publish(events)

    @contextmanager
    def lossy(self) -> Iterator[None]:
        """What is told here reaches nobody."""
        wire = self.publisher._events
        self.publisher._events = self.publisher._context.socket(zmq.PUB)
        try:
            yield
        finally:
            self.publisher._events.close(linger=0)
            self.publisher._events = wire


def listening(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


@asynccontextmanager
async def life(
    events: int = 0, replay: int = 0, buffer_batches: int = 1000, *, keys: CurveKeys | None = None
) -> AsyncIterator[Life]:
    """Publishes on these ports, or on free ones, until the block ends."""
    ports = listening(events), listening(replay)
    one, two = (f"127.0.0.1:{port.getsockname()[1]}" for port in ports)
    publisher = KvPublisher(*ports, unix_time=lambda: float(next(tick)), buffer_batches=buffer_batches, keys=keys)
    running = Life(publisher, one, two)
    publisher.start(lambda: running.told)
    try:
        yield running
    finally:
        await publisher.close()


@dataclass
class Listener:
    """`batches` as they came, and what they come to."""

    held: set[BlockName] = field(default_factory=set)
    batches: list[tuple[KvEvent, ...]] = field(default_factory=list)
    notes: Counter[Note] = field(default_factory=Counter)


@asynccontextmanager
async def listener(
    events: str, replay: str | None, probe_s: float = PROBE_S, curve: tuple[CurveKeys, str] | None = None
) -> AsyncIterator[Listener]:
    """Follows until the block ends, whose end shows what broke it before."""
    heard = Listener()
    context = shared_context()
    subscriber = KvSubscriber(context, events, replay, lambda note: heard.notes.update([note]), probe_s, curve)

    async def follow() -> None:
        async with aclosing(subscriber.follow()) as batches:
            async for several in batches:
                for batch in several:
                    heard.batches.append(batch)
                    apply(heard.held, batch)

    task = asyncio.create_task(follow())
    try:
        yield heard
    finally:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        finally:
            context.destroy(linger=0)


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
