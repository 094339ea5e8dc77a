"""Which batches are taken, and what is asked for, where the wire or the publisher plays tricks."""

from collections.abc import Sequence

import pytest

from prfaas.control.kv_events import SEQ_BYTES, SNAPSHOT_REQUEST, AllBlocksCleared, BlockStored, KvBatch, encode
from prfaas.control.kv_order import Events, KvOrder, Note, Numbered


def stored(name: int) -> BlockStored:
    return BlockStored((name,), None, (), 4, None, "GPU", None)


def batch(seq: int, ts: float = 0.0, life: int = 1) -> Numbered:
    return Numbered.of(seq.to_bytes(SEQ_BYTES, "big"), encode(KvBatch(ts, (stored(1000 * life + seq),))))


class Told:
    """A server of vLLM: repeats what it kept; and what it was asked."""

    def __init__(self, *kept: Numbered) -> None:
        self.kept = list(kept)
        self.asked: list[bytes] = []
        self.notes: list[Note] = []
        self.order = KvOrder(self.ask, self.notes.append)

    async def ask(self, start: bytes) -> Sequence[Numbered]:
        self.asked.append(start)
        if start == SNAPSHOT_REQUEST:
            return []
        return [one for one in self.kept if one.seq >= int.from_bytes(start, "big")]


CLEARED: Events = (AllBlocksCleared(),)


@pytest.mark.parametrize("ts", [0.0, -1e9, 1e12])
async def test_a_clock_that_jumps_changes_nothing(ts: float) -> None:
    told = Told(batch(0, ts=5.0))
    assert await told.order.connected() == [CLEARED, batch(0).events]
    for seq in (1, 2):
        assert await told.order.take(batch(seq, ts=ts * seq)) == [batch(seq).events]
    assert told.notes == []


async def test_another_life_with_the_same_numbers_and_an_earlier_clock() -> None:
    told = Told(batch(0, ts=5.0), batch(1, ts=6.0))
    await told.order.connected()
    told.kept = [batch(0, ts=1.0, life=2), batch(1, ts=2.0, life=2)]
    again = [CLEARED, *(one.events for one in told.kept)]
    assert await told.order.connected() == again
    assert await told.order.take(told.kept[1]) == []
    assert await told.order.take(batch(2, ts=0.0, life=2)) == [batch(2, life=2).events]


async def test_numbers_that_begin_anew_on_one_connection_are_another_life() -> None:
    """As behind a forwarder, whose connection outlives the publisher's."""
    told = Told(batch(0))
    await told.order.connected()
    for seq in (1, 2):
        await told.order.take(batch(seq))
    told.kept = [batch(0, life=2)]
    assert await told.order.take(told.kept[0]) == [CLEARED, told.kept[0].events]


async def test_what_an_answer_had_already_is_not_taken_twice_and_not_asked_for() -> None:
    told = Told(*(batch(seq) for seq in range(5)))
    await told.order.connected()
    asked = len(told.asked)
    for seq in (1, 2, 4, 4):
        assert await told.order.take(batch(seq)) == []
    assert len(told.asked) == asked
    assert await told.order.take(batch(5)) == [batch(5).events]


async def test_the_first_batches_may_be_lost_too() -> None:
    told = Told()
    assert await told.order.connected() == [CLEARED]
    told.kept = [batch(seq) for seq in range(3)]
    assert await told.order.take(batch(2)) == [CLEARED, *(one.events for one in told.kept)]
    assert told.notes == ["gap"]


async def test_a_server_that_repeats_nothing_is_heard_nevertheless() -> None:
    told = Told()
    await told.order.connected()
    assert await told.order.take(batch(7)) == [CLEARED, batch(7).events]
    assert await told.order.take(batch(8)) == [batch(8).events]
    assert await told.order.take(batch(10)) == [CLEARED, batch(10).events]


async def test_without_an_answer_nothing_has_changed() -> None:
    told = Told(batch(0))
    await told.order.connected()
    answering, told.kept = told.kept, []

    async def in_vain(start: bytes) -> Sequence[Numbered]:
        raise TimeoutError(start)

    told.order._ask = in_vain
    with pytest.raises(TimeoutError):
        await told.order.take(batch(2))
    told.order._ask = told.ask
    told.kept = [*answering, batch(1), batch(2)]
    assert await told.order.take(batch(2)) == [batch(1).events, batch(2).events]
