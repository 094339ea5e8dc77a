"""KV events between those who told each other their keys, and between nobody else."""

import asyncio
import itertools

import pytest
import zmq

from prfaas.control import kv_subscriber
from prfaas.control.curve import MOST_CLIENTS, CurveGate, CurveKeys
from prfaas.core.errors import WireError
from tests.control.kv_rig import Life, life, listener, removed, stored, until

ROUNDS = 20
NEVER_S = 1000.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_subscriber, "RETRY_S", 0.05)
    monkeypatch.setattr(kv_subscriber, "HANDSHAKE_MS", 200)
    monkeypatch.setattr(kv_subscriber, "REPLY_S", 0.5)


async def test_events_cross_encrypted_to_one_whose_key_is_known() -> None:
    server, client = CurveKeys.new(), CurveKeys.new()
    async with life(keys=server) as publisher:
        publisher.publisher.allow(client.public)
        publisher.tell(stored(1, 2))
        async with listener(publisher.events, publisher.replay, curve=(client, server.public)) as heard:
            await until(lambda: heard.held == {1, 2})
            publisher.tell(removed(1))
            await until(lambda: heard.held == {2})


async def test_one_who_comes_before_its_key_is_let_in_later() -> None:
    server, client = CurveKeys.new(), CurveKeys.new()
    async with life(keys=server) as publisher:
        publisher.tell(stored(1))
        keys = client, server.public
        async with listener(publisher.events, publisher.replay, NEVER_S, curve=keys) as heard:
            await refused(publisher)
            assert heard.held == set()
            publisher.publisher.allow(client.public)
            await until(lambda: heard.held == {1})
            # Not only asked for, but heard as it happens, although the first handshake had been refused.
            more = itertools.count(2)

            def heard_live() -> bool:
                publisher.tell(stored(next(more)))
                return len(heard.held) > 1

            await until(heard_live)


async def refused(publisher: Life) -> None:
    """Returns once somebody was told to come again, so that hearing nothing means something."""
    gate = publisher.publisher._gate
    assert gate is not None
    await until(lambda: gate.num_refused > 0)


@pytest.mark.parametrize("case", ["unknown key", "wrong server", "plain"])
async def test_nobody_else_hears_anything(case: str) -> None:
    server, client, other = CurveKeys.new(), CurveKeys.new(), CurveKeys.new()
    async with life(keys=server) as publisher:
        publisher.publisher.allow(other.public)
        curve = {"unknown key": (client, server.public), "wrong server": (other, client.public), "plain": None}[case]
        async with listener(publisher.events, publisher.replay, curve=curve) as heard:
            for name in range(ROUNDS):
                publisher.tell(stored(name))
                await asyncio.sleep(0.01)
            assert heard.batches == []
        async with listener(publisher.events, publisher.replay, curve=(other, server.public)) as known:
            await until(lambda: known.held == set(range(ROUNDS)))


@pytest.mark.parametrize("key", ["", "short", "\u00e4" * 40, " " * 40])
def test_what_is_no_key_is_a_typed_error(key: str) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as sock, pytest.raises(WireError, match="is no CURVE key"):
        CurveKeys.new().connect(sock, key)


async def test_the_gate_remembers_so_many_keys_and_no_more() -> None:
    with zmq.Context() as context:
        gate = CurveGate(context)
        for _ in range(2 * MOST_CLIENTS):
            gate.allow(CurveKeys.new().public)
        await gate.close()
        assert len(gate._allowed) == MOST_CLIENTS
