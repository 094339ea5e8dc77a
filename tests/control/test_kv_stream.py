"""Publisher and subscriber over real sockets: holes, replays, snapshots, and publishers that die."""

import asyncio

import pytest
import zmq
import zmq.asyncio

from prfaas.control import kv_order, kv_subscriber
from prfaas.control.kv_decode import decode
from prfaas.control.kv_events import END_SEQ, AllBlocksCleared, KvBatch, encode
from prfaas.control.kv_publisher import MAX_REQUEST_BYTES
from prfaas.control.kv_subscriber import KvSubscriber, shared_context
from prfaas.core.errors import WireError
from tests.control.kv_rig import PROBE_S, Life, Listener, life, listener, listening, removed, stored, until

NEVER_S = 1000.0
"""A probe that does not come before the test ends."""


async def in_step(heard: Listener, publisher: Life) -> None:
    """Live batches arrive: a subscription takes a moment, and until then batches are lost."""
    await until(lambda: heard.held == publisher.held)


async def live(heard: Listener, publisher: Life) -> None:
    """Returns once the subscription works."""
    name = 10**6
    while name not in heard.held:
        name += 1
        publisher.tell(stored(name))
        await asyncio.sleep(0.02)


async def test_what_was_held_before_and_what_happens_then() -> None:
    async with life() as publisher:
        publisher.tell(stored(1, b"two", 3), removed(3))
        async with listener(publisher.events, publisher.replay) as heard:
            await in_step(heard, publisher)
            assert heard.batches[0] == (AllBlocksCleared(), stored(1, b"two", 3), removed(3))
            publisher.tell(stored(4))
            publisher.tell(removed(1))
            await in_step(heard, publisher)
            assert heard.held == {b"two", 4}


async def test_a_hole_is_seen_and_filled_in_order() -> None:
    async with life() as publisher, listener(publisher.events, publisher.replay, NEVER_S) as heard:
        await live(heard, publisher)
        heard.notes.clear()
        with publisher.lossy():
            publisher.tell(stored(1))
            publisher.tell(stored(2), removed(1))
        before = len(heard.batches)
        publisher.tell(stored(3))
        await in_step(heard, publisher)
        assert heard.batches[before:] == [(stored(1),), (stored(2), removed(1)), (stored(3),)]
        assert heard.notes == {"gap": 1, "replay": 1}


async def test_a_loss_that_nothing_follows_is_found_too() -> None:
    async with life() as publisher, listener(publisher.events, publisher.replay) as heard:
        await live(heard, publisher)
        heard.notes.clear()
        with publisher.lossy():
            publisher.tell(stored(1))
        await in_step(heard, publisher)
        assert heard.notes == {"replay": 1}


async def test_who_missed_more_than_the_buffer_holds_hears_everything() -> None:
    async with life(buffer_batches=3) as publisher, listener(publisher.events, publisher.replay, NEVER_S) as heard:
        await live(heard, publisher)
        heard.notes.clear()
        with publisher.lossy():
            for name in range(20):
                publisher.tell(stored(name))
        publisher.tell(removed(7))
        await in_step(heard, publisher)
        assert heard.notes == {"gap": 1, "snapshot": 1}


async def test_a_large_snapshot_comes_in_parts() -> None:
    async with life() as publisher:
        publisher.tell(*(stored(name) for name in range(1000)))
        async with listener(publisher.events, publisher.replay) as heard:
            await in_step(heard, publisher)
            assert len(heard.batches) > 10


@pytest.mark.parametrize("told", [0, 1, 30])
async def test_a_publisher_that_died_is_followed_into_its_next_life(told: int) -> None:
    """However many batches the new one has published: the same number does not mean the same batch."""
    async with life() as first:
        ports = [int(address.rpartition(":")[2]) for address in (first.events, first.replay)]
        async with listener(first.events, first.replay) as heard:
            for name in range(3):
                first.tell(stored(name))
            await in_step(heard, first)
            await first.publisher.close()
            async with life(*ports) as second:
                for name in range(told):
                    second.tell(stored(100 + name))
                await in_step(heard, second)
                assert heard.notes["snapshot"] >= 2


async def test_a_subscriber_may_come_before_its_publisher() -> None:
    events, replay = listening(), listening()
    ports = events.getsockname()[1], replay.getsockname()[1]
    events.close()
    replay.close()
    async with listener(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}") as heard, life(*ports) as publisher:
        publisher.tell(stored(1))
        await in_step(heard, publisher)


async def test_many_subscribers() -> None:
    async with (
        life() as publisher,
        listener(publisher.events, publisher.replay) as one,
        listener(publisher.events, publisher.replay) as two,
    ):
        await live(one, publisher)
        await live(two, publisher)
        publisher.tell(stored(1))
        await in_step(one, publisher)
        await in_step(two, publisher)


async def test_without_a_replay_socket_a_hole_unsays_what_was_known() -> None:
    async with life() as publisher, listener(publisher.events, None) as heard:
        await live(heard, publisher)
        await asyncio.sleep(4 * PROBE_S)
        assert heard.held
        with publisher.lossy():
            publisher.tell(removed(*publisher.held))
        publisher.tell(stored(5))
        await in_step(heard, publisher)
        assert heard.batches[-2:] == [(AllBlocksCleared(),), (stored(5),)]


async def test_a_server_without_snapshots_repeats_what_it_still_has() -> None:
    """As vLLM's own publisher answers: batches from a number on, then the end; a huge number has only the end."""
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    kept = [(4, encode(KvBatch(1.0, (stored(4),), 0))), (5, encode(KvBatch(2.0, (stored(5),), 0)))]

    async def answer() -> None:
        while True:
            client, _, start = await router.recv_multipart()
            for seq, payload in kept:
                if seq >= int.from_bytes(start, "big"):
                    await router.send_multipart([client, b"", seq.to_bytes(8, "big"), payload])
            await router.send_multipart([client, b"", END_SEQ, b""])

    answering = asyncio.create_task(answer())
    try:
        async with listener("127.0.0.1:9", f"127.0.0.1:{port}") as heard:
            await until(lambda: heard.held == {4, 5})
            assert heard.batches == [(AllBlocksCleared(),), (stored(4),), (stored(5),)]
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        context.destroy(linger=0)


async def ask(address: str, *request: bytes) -> list[list[bytes]]:
    """A client of vLLM's replay protocol."""
    context = zmq.asyncio.Context()
    try:
        asking = context.socket(zmq.DEALER)
        asking.connect(f"tcp://{address}")
        await asking.send_multipart(request)
        answer: list[list[bytes]] = []
        while not answer or answer[-1][-2] != END_SEQ:
            answer.append(await asyncio.wait_for(asking.recv_multipart(), 10))
        return answer
    finally:
        context.destroy(linger=0)


async def test_the_replay_protocol_is_vllms() -> None:
    async with life() as publisher:
        for name in range(4):
            publisher.tell(stored(name))
        answer = await ask(publisher.replay, b"", (3).to_bytes(8, "big"))
        assert [frames[:3] for frames in answer[:-1]] == [[b"", b"", n.to_bytes(8, "big")] for n in (3, 4)]
        assert [decode(frames[3]).events for frames in answer[:-1]] == [(stored(2),), (stored(3),)]
        assert answer[-1] == [b"", b"", END_SEQ, b""]


async def test_requests_that_make_no_sense_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with life() as publisher:
        context = zmq.asyncio.Context()
        bad = context.socket(zmq.DEALER)
        bad.connect(f"tcp://{publisher.replay}")
        for _ in range(100):
            await bad.send_multipart([b"", b"short"])
            await bad.send_multipart([b"alone"])
        await bad.send_multipart([b"", bytes(8)])
        assert (await bad.recv_multipart())[2] == bytes(8)
        context.destroy(linger=0)
        assert len(await ask(publisher.replay, b"", bytes(8))) == 2
    assert len(caplog.records) == 1  # whoever is at the wrong port may have a lot to say


async def test_who_asks_at_length_is_disconnected() -> None:
    async with life() as publisher:
        context = zmq.asyncio.Context()
        bad = context.socket(zmq.DEALER)
        monitor = bad.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        bad.connect(f"tcp://{publisher.replay}")
        await bad.send_multipart([b"", bytes(MAX_REQUEST_BYTES + 1)])
        assert await monitor.poll(10_000)
        bad.disable_monitor()
        monitor.close(linger=0)
        context.destroy(linger=0)
        assert len(await ask(publisher.replay, b"", bytes(8))) == 2


def answer_at_once(replay: "zmq.Socket[bytes]", messages: int) -> None:
    """One request, from a thread."""
    client, empty, _ = replay.recv_multipart()
    for number in range(messages):
        batch = encode(KvBatch(float(number), (stored(number),), 0))
        replay.send_multipart([client, empty, b"", number.to_bytes(8, "big"), batch])
    replay.send_multipart([client, empty, b"", END_SEQ, b""])


async def test_a_long_answer_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, decoded_in = 0, []

    def noted(payload: bytes) -> KvBatch:
        decoded_in.append(turns)
        return decode(payload)

    monkeypatch.setattr(kv_order, "decode", noted)
    context = zmq.Context()
    replay = context.socket(zmq.ROUTER)
    port = replay.bind_to_random_port("tcp://127.0.0.1")
    answering = asyncio.create_task(asyncio.to_thread(answer_at_once, replay, 200))
    async with listener("127.0.0.1:9", f"127.0.0.1:{port}", NEVER_S) as heard:
        while len(heard.held) < 200:
            turns += 1
            await asyncio.sleep(0)
    await answering
    context.destroy(linger=0)
    assert len(set(decoded_in)) == len(decoded_in) == 200


async def test_a_publisher_that_talks_nonsense_ends_the_following() -> None:
    context = zmq.asyncio.Context()
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")

    async def babble() -> None:
        while True:
            await publisher.send_multipart([b"", bytes(8), b"nonsense"])
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(babble())
    try:
        with pytest.raises(WireError):
            async with listener(f"127.0.0.1:{port}", None) as heard:
                await asyncio.sleep(0.3)
        assert heard.batches == [(AllBlocksCleared(),)]
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        context.destroy(linger=0)


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_subscriber, "MAX_ANSWER_BYTES", 20 * kv_subscriber.BATCH_BYTES)
    context = zmq.Context()
    replay = context.socket(zmq.ROUTER)
    port = replay.bind_to_random_port("tcp://127.0.0.1")
    answering = asyncio.create_task(asyncio.to_thread(answer_at_once, replay, 30))
    ours = shared_context()
    following = KvSubscriber(ours, "127.0.0.1:9", f"127.0.0.1:{port}", lambda _: None).follow()
    with pytest.raises(WireError, match="repeats more than"):
        await anext(following)
    await answering
    ours.destroy(linger=0)
    context.destroy(linger=0)
