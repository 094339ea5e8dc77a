"""What one router is to hear of its requests: events gather here and leave together. Knows no sockets."""

import asyncio
from dataclasses import dataclass

from prfaas.control.convert import failure_to_pb, tokens_to_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import PrfaasError
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason


class Outgoing:
    """Belongs to one event loop.

    Adding never waits, so that a router that reads slowly holds up no engine. What gathers for it is bounded by the
    `max_tokens` of its requests.
    """

    def __init__(self) -> None:
        self._gathered = pb.AttendEvents()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def token(self, call: int, token_id: int) -> None:
        self._gathered.tokens.add(call=call, token_ids=(token_id,))
        self._gathers()

    def event(self, call: int, event: pb.GenerateEvent) -> None:
        self._gathered.events.add(call=call, event=event)
        self._gathers()

    async def take(self) -> pb.AttendEvents:
        """Waits for events and for the end of the loop's turn, then gives all that has gathered."""
        await self._some.wait()
        # What one step of the engine did is told by one message, ends of requests included.
        await asyncio.sleep(0)
        gathered, self._gathered = self._gathered, pb.AttendEvents()
        self._some.clear()
        return gathered

    def sent(self) -> None:
        """What was taken last is on its way."""
        if not self._some.is_set():
            self._none.set()

    async def all_sent(self) -> None:
        await self._none.wait()

    def _gathers(self) -> None:
        if not self._some.is_set():
            self._some.set()
            self._none.clear()


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """One call's part of it; `finished` or `failed` is its last event."""

    outgoing: Outgoing
    call: int

    def token(self, token_id: int, logprobs: TokenLogprobs | None) -> None:
        if logprobs is None:
            self.outgoing.token(self.call, token_id)
        else:
            self.outgoing.event(self.call, pb.GenerateEvent(tokens=tokens_to_pb(token_id, logprobs)))

    def finished(self, reason: FinishReason, account: pb.Account) -> None:
        finished = pb.Finished(reason=reason.value, account=account)
        self.outgoing.event(self.call, pb.GenerateEvent(finished=finished))

    def failed(self, error: PrfaasError) -> None:
        self.outgoing.event(self.call, pb.GenerateEvent(failure=failure_to_pb(error)))
