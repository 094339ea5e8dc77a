"""What crosses between a prefill and a decode instance that both have prefixes cached, and what the account says."""

import threading
from itertools import product

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import RequestId, new_secret, new_transfer_id
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import ModelShape
from tests.eventually import eventually_async
from tests.generating import Generating
from tests.instance.pair import DENSE, HYBRID, SAMPLING, Pair, running
from tests.instance.played_engine import Plan, first_token

PROMPT = tuple(range(1, 15))
HELD = (0, 4, 8, 12, 14)
CACHED = (0, 4, 8, 12)


def drawn(prompt: tuple[int, ...]) -> list[int]:
    return [first_token(Request(RequestId("r"), prompt, SamplingParams(max_tokens=1)))]


def rows_bytes(shape: ModelShape, tokens: int) -> int:
    return tokens * shape.kv_bytes_per_token + shape.state_bytes


@pytest.mark.parametrize("shape", [HYBRID, DENSE])
async def test_only_what_is_lacking_crosses_and_all_is_whole(shape: ModelShape) -> None:
    async with running(shape) as pair:
        for number, (held, cached) in enumerate(product(HELD, CACHED)):
            pair.near.engine.plan.held_tokens, pair.far.engine.plan.cached_tokens = held, cached
            prompt = (*PROMPT[:-1], 100 + number)
            tokens, account = await pair.ask(*prompt)
            assert tokens == drawn(prompt)
            assert account.fallback == ""
            assert account.kv_bytes_raw == account.kv_bytes_wire == rows_bytes(shape, len(prompt) - held)
            assert (account.tokens_held, account.tokens_reused) == (held, cached)
            assert account.tokens_computed + account.tokens_reused == len(prompt)
            assert (account.queue_ms, account.prefill_ms) == (250, 500)
        assert pair.near.engine.seen.whole == [True] * number + [True]


async def test_one_token_prompts_and_prompts_of_whole_pages() -> None:
    async with running() as pair:
        for length in (1, 4, 5, 8):
            _, account = await pair.ask(*PROMPT[:length])
            assert account.kv_bytes_raw == rows_bytes(HYBRID, length)
        assert pair.near.engine.seen.whole == [True] * 4


async def test_a_local_prefill_tells_what_it_reused() -> None:
    async with running() as pair:
        pair.near.engine.plan = Plan(cached_tokens=8)
        tokens, account = await pair.ask(*PROMPT, remote=False)
        assert tokens == drawn(PROMPT)
        assert (account.tokens_reused, account.tokens_computed, account.tokens_held) == (8, 6, 0)
        assert (account.kv_bytes_raw, account.kv_codec) == (0, "none")


async def check_fallback(pair: Pair, code: str) -> None:
    """A transfer of the rest fails: nothing of it is used, and the account counts what was computed here."""
    pair.near.engine.plan = Plan(cached_tokens=4, held_tokens=4, reused_after_failure=8)
    tokens, account = await pair.ask(*PROMPT)
    assert tokens == drawn(PROMPT)
    assert account.fallback == code
    assert (account.prefill_instance, account.decode_instance) == ("near", "near")
    assert (account.tokens_reused, account.tokens_computed, account.tokens_held) == (8, 6, 0)
    assert (account.kv_bytes_raw, account.kv_bytes_wire, account.transfer_ms) == (0, 0, 0)
    assert pair.near.metrics.fallbacks.labels(code)._value.get() == 1
    assert pair.near.engine.seen.whole == []


async def test_a_transfer_without_states_is_never_used() -> None:
    async with running() as pair:
        pair.far.engine.plan.sends_states = False
        await check_fallback(pair, "manifest_invalid")


async def test_a_prefix_sent_twice_is_never_used() -> None:
    """The engine told of cached tokens and then computed them all the same: one of the two is wrong."""
    async with running() as pair:
        pair.far.engine.plan = Plan(cached_tokens=12, computes_from=8)
        await check_fallback(pair, "manifest_invalid")


async def test_a_prefix_never_sent_is_never_used() -> None:
    async with running() as pair:
        pair.far.engine.plan = Plan(cached_tokens=4, computes_from=13)
        await check_fallback(pair, "manifest_invalid")


async def test_a_prefill_instance_that_is_gone() -> None:
    async with running() as pair:
        pair.far.address = "127.0.0.1:1"
        await check_fallback(pair, "peer_lost")


async def test_after_giving_up_no_page_is_written_and_the_sender_keeps_its_own_until_the_end() -> None:
    async with running() as pair:
        near, far = pair.near, pair.far
        far.engine.plan = Plan(cached_tokens=8, before_last_chunk=threading.Event())
        near.engine.plan.held_tokens = 4
        call = Generating(near.stub, pair.request(*PROMPT))
        # Cached tokens [4, 8) cross before anything has been computed.
        arriving = 4 * HYBRID.kv_bytes_per_token
        metric = near.metrics.kv_bytes.labels("in", "wire")
        await eventually_async(lambda: metric._value.get() >= arriving)
        assert (await near.stub.Cancel(pb.CancelRequest(request_id="r"))).found
        events = [event async for event in call]
        assert events[-1].failure.code == "cancelled"
        await eventually_async(lambda: len(near.engine.seen.released) == 1)
        before = {place: bytes(row) for place, row in near.memory.rows.items()}
        assert far.engine.plan.before_last_chunk is not None
        far.engine.plan.before_last_chunk.set()
        await eventually_async(lambda: len(far.engine.seen.released) == 1)
        assert {place: bytes(row) for place, row in near.memory.rows.items()} == before
        # Its connection goes on: the next request is served by it.
        near.engine.plan.held_tokens = 8
        tokens, account = await pair.ask(*PROMPT)
        assert (tokens, account.fallback) == (drawn(PROMPT), "")


async def test_a_tenants_salt_goes_with_the_prompt() -> None:
    async with running() as pair:
        await pair.ask(*PROMPT, salt="tenant-7")
        await pair.ask(*PROMPT)
        assert [request.cache_salt for request in pair.far.engine.seen.requests] == ["tenant-7", ""]


@pytest.mark.parametrize("held", [15, 2**32 - 1])
async def test_a_ticket_for_more_than_the_prompt_is_refused(held: int) -> None:
    async with running() as pair:
        ticket = pb.Ticket(
            transfer_id=new_transfer_id(),
            epoch=1,
            secret=new_secret(),
            data_address="127.0.0.1:1",
            receiver_cluster="west",
            held_tokens=held,
        )
        fingerprint = pair.far.identity.model_fingerprint
        request = pb.PrefillRequest(
            request_id="p", prompt_token_ids=PROMPT, sampling=SAMPLING, ticket=ticket, model_fingerprint=fingerprint
        )
        events = [event async for event in pair.far.stub.Prefill(request)]
        assert [event.failure.code for event in events] == ["ticket_refused"]
        assert f"{held} tokens of a prompt of 14" in events[0].failure.message
        assert pair.far.engine.seen.requests == []
