"""A ticket's prefill and its callers: who comes twice, who comes back, who stays away, and who lies."""

import threading
from typing import Any

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import TransferId, new_secret, new_transfer_id
from prfaas.instance.kv import KvImport
from prfaas.transport.inbox import Outcome, Received
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.eventually import eventually_async
from tests.instance.pair import DENSE, SAMPLING, Pair, running
from tests.instance.played_engine import Plan

PROMPT = tuple(range(1, 15))
PAGES, STATE_PAGES = (900, 901, 902, 903), (904, 905)


class Ticketed:
    """A transfer that the near instance waits for, and whose prefill the test asks for by itself."""

    def __init__(self, pair: Pair) -> None:
        near = pair.near
        self.stub = pair.far.stub
        self.ended: list[Outcome] = []
        self.ticket = pb.Ticket(
            transfer_id=new_transfer_id(),
            epoch=near.identity.epoch,
            secret=new_secret(),
            data_address=near.identity.data_address,
            receiver_cluster="west",
        )
        shape, fingerprint = near.identity.shape, near.identity.model_fingerprint
        secret = bytes(self.ticket.secret)
        expectation = Expectation(shape, near.identity.sent_shapes, fingerprint, len(PROMPT), secret)
        destination = KvImport(shape, near.memory, PAGES, STATE_PAGES, None)
        transfer_id = TransferId(bytes(self.ticket.transfer_id))
        near.inbox.expect(transfer_id, near.identity.epoch, ReceiveSession(expectation), destination, self.ended.append)
        self.fingerprint = fingerprint

    def call(self, *, resume: bool = False, **ticket: Any) -> Any:
        changed = pb.Ticket()
        changed.CopyFrom(self.ticket)
        changed.MergeFrom(pb.Ticket(**ticket))
        return self.stub.Prefill(
            pb.PrefillRequest(
                request_id="p",
                prompt_token_ids=PROMPT,
                sampling=SAMPLING,
                ticket=changed,
                model_fingerprint=self.fingerprint,
                resume=resume,
            )
        )


async def last(call: Any) -> pb.PrefillEvent:
    events: list[pb.PrefillEvent] = [event async for event in call]
    return events[-1]


async def first_of(call: Any) -> pb.PrefillEvent:
    """The run is known to the caller from then on."""
    event: pb.PrefillEvent = await anext(aiter(call))
    return event


def held_back() -> Plan:
    return Plan(before_last_chunk=threading.Event())


def go_on(plan: Plan) -> None:
    assert plan.before_last_chunk is not None
    plan.before_last_chunk.set()


async def test_one_ticket_is_one_prefill_however_often_it_is_asked_for() -> None:
    async with running(DENSE) as pair:
        plan = pair.far.engine.plan = held_back()
        ticketed = Ticketed(pair)
        calls = []
        for resume in (False, False, True):
            calls.append(ticketed.call(resume=resume))
            assert (await first_of(calls[-1])).WhichOneof("event") == "progress"
        calls[0].cancel()
        go_on(plan)
        ends = [await last(call) for call in (*calls[1:], ticketed.call())]
        assert [event.WhichOneof("event") for event in ends] == ["done"] * 3
        assert isinstance(ticketed.ended[0], Received)
        assert len(pair.far.engine.seen.requests) == 1
        await eventually_async(lambda: len(pair.far.engine.seen.released) == 1)
        assert pair.far.prefill.num_running == 0


async def test_a_ticket_in_the_wrong_hands_is_refused_and_does_no_harm() -> None:
    async with running(DENSE) as pair:
        plan = pair.far.engine.plan = held_back()
        ticketed = Ticketed(pair)
        call = ticketed.call()
        await first_of(call)
        assert (await last(ticketed.call(secret=new_secret()))).failure.code == "ticket_refused"
        go_on(plan)
        assert (await last(call)).WhichOneof("event") == "done"
        assert (await last(ticketed.call(secret=new_secret()))).failure.code == "ticket_refused"


async def test_what_was_never_begun_cannot_be_resumed() -> None:
    async with running(DENSE) as pair:
        event = await last(Ticketed(pair).call(resume=True))
        assert event.failure.code == "peer_lost"
        assert pair.far.engine.seen.requests == []


async def test_a_prefill_whose_caller_stays_away_is_given_up_and_freed() -> None:
    async with running(DENSE, stall_s=0.3) as pair:
        plan = pair.far.engine.plan = held_back()
        call = Ticketed(pair).call()
        await first_of(call)
        call.cancel()
        await eventually_async(lambda: pair.far.prefill.num_running == 0)
        count = pair.far.metrics.requests.labels("prefill", "cancelled")
        assert count._value.get() == 1
        go_on(plan)
        await eventually_async(lambda: len(pair.far.engine.seen.released) == 1)


async def test_cancel_frees_at_once_and_only_what_the_ticket_names() -> None:
    async with running(DENSE) as pair:
        plan = pair.far.engine.plan = held_back()
        ticketed = Ticketed(pair)
        call = ticketed.call()
        await first_of(call)
        other = pb.CancelRequest(request_id="p", transfer_id=new_transfer_id())
        assert not (await pair.far.stub.Cancel(other)).found
        own = pb.CancelRequest(request_id="p", transfer_id=ticketed.ticket.transfer_id)
        assert (await pair.far.stub.Cancel(own)).found
        assert (await last(call)).failure.code == "cancelled"
        assert (await last(ticketed.call(resume=True))).failure.code == "cancelled"
        go_on(plan)
        await eventually_async(lambda: len(pair.far.engine.seen.released) == 1)


async def test_a_receiver_in_another_life_refuses_and_the_prefill_is_freed() -> None:
    async with running(DENSE) as pair:
        ticketed = Ticketed(pair)
        event = await last(ticketed.call(epoch=pair.near.identity.epoch ^ 1))
        assert event.failure.code == "ticket_refused"
        await eventually_async(lambda: len(pair.far.engine.seen.released) == 1)
        assert ticketed.ended == []


async def test_a_draining_instance_lets_callers_come_back_and_takes_nothing_new() -> None:
    async with running(DENSE) as pair:
        plan = pair.far.engine.plan = held_back()
        ticketed = Ticketed(pair)
        call = ticketed.call()
        await first_of(call)
        assert (await pair.far.stub.Drain(pb.DrainRequest())).running_requests == 1
        call.cancel()
        again = ticketed.call(resume=True)
        await first_of(again)
        assert (await last(Ticketed(pair).call())).failure.code == "draining"
        go_on(plan)
        assert (await last(again)).WhichOneof("event") == "done"
