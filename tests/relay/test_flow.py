"""One direction between two fake transports: budgets, a full sink, and ends that fail."""

import asyncio
from random import Random

import pytest

from prfaas.relay.flow import Flow
from prfaas.relay.shaping import MIN_BUDGET_BYTES, LinkProfile, OneWay
from tests.relay.harness import eventually

CHUNK = bytes(64 * 1024)


class FakeTransport(asyncio.Transport):
    """Remembers what it was told; buffers nothing."""

    def __init__(self, *, half_closes: bool = True) -> None:
        super().__init__()
        self.written = bytearray()
        self.half_closes = half_closes
        self._reading = True
        self.ended = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        if not self.half_closes:
            raise OSError("Transport endpoint is not connected")
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True


def joined(path: OneWay, sink: FakeTransport) -> tuple[Flow, FakeTransport]:
    flow, source = Flow(path, lambda: None), FakeTransport()
    flow.attach(source, sink)
    return flow, source


def a_path(gbit_s: float = 100.0, rtt_ms: float = 0.0) -> OneWay:
    return OneWay(LinkProfile(gbit_s=gbit_s, rtt_ms=rtt_ms), Random(0))


async def test_a_full_sink_holds_the_line_and_then_the_source() -> None:
    path, sink = a_path(gbit_s=0.5), FakeTransport()
    flow, source = joined(path, sink)
    flow.sink_full()
    fed = 0
    while source.is_reading():
        flow.feed(CHUNK)
        fed += len(CHUNK)
    assert not sink.written
    assert flow.held_bytes == fed <= path.budget_bytes
    await asyncio.sleep(0.02)
    flow.sink_drained()
    await eventually(lambda: len(sink.written) == fed)
    assert source.is_reading()
    assert (flow.held_bytes, path.carried_bytes) == (0, fed)


async def test_bulk_flows_divide_the_budget_and_give_it_back() -> None:
    path = a_path(gbit_s=10, rtt_ms=20)
    alone = path.budget_bytes
    flows = [joined(path, FakeTransport())[0] for _ in range(4)]
    for flow in flows:
        for _ in range(3):
            flow.feed(CHUNK)
    assert path.budget_bytes == alone // 4
    for flow in flows:
        flow.stop()
    assert path.budget_bytes == alone
    assert path.bulk_flows == 0


async def test_small_messages_take_no_share() -> None:
    path = a_path(gbit_s=10, rtt_ms=20)
    alone = path.budget_bytes
    flow, _ = joined(path, FakeTransport())
    flow.feed(b"ping")
    assert path.budget_bytes == alone > MIN_BUDGET_BYTES
    flow.stop()


@pytest.mark.parametrize("half_closes", [True, False])
async def test_a_sink_that_cannot_be_half_closed_is_aborted(half_closes: bool) -> None:
    sink = FakeTransport(half_closes=half_closes)
    flow, _ = joined(a_path(), sink)
    flow.feed(b"last words")
    flow.feed(b"")
    await eventually(lambda: flow.ended)
    assert sink.written == b"last words"
    assert (sink.ended, sink.aborted) == (half_closes, not half_closes)


async def test_nothing_is_delivered_after_a_stop() -> None:
    sink = FakeTransport()
    flow, _ = joined(a_path(), sink)
    flow.feed(b"dropped")
    flow.stop()
    flow.feed(b"late")
    await asyncio.sleep(0.01)
    assert not sink.written
    assert flow.held_bytes == 0


async def test_a_stalled_link_delivers_nothing_and_then_everything() -> None:
    path, sink = a_path(gbit_s=1), FakeTransport()
    flow, source = joined(path, sink)
    flow.feed(b"on its way ")
    path.apply(LinkProfile(gbit_s=1, rtt_ms=0, stalled=True))
    fed = len(b"on its way ")
    while source.is_reading():
        flow.feed(CHUNK)
        fed += len(CHUNK)
    await asyncio.sleep(0.02)
    assert not sink.written
    assert flow.held_bytes == fed <= path.budget_bytes
    path.apply(LinkProfile(gbit_s=1, rtt_ms=0))
    flow.resume()
    await eventually(lambda: len(sink.written) == fed)
    assert source.is_reading()


async def test_a_sink_that_is_closing_takes_nothing() -> None:
    sink = FakeTransport()
    flow, _ = joined(a_path(), sink)
    flow.feed(b"dropped")
    sink.abort()
    await asyncio.sleep(0.01)
    assert not sink.written
    flow.stop()
