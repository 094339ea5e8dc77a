"""One attempt at a request on one decode instance, as whoever answers the client reads it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import DeadlineError, PrfaasError
from prfaas.gateway.attending import Attending
from prfaas.gateway.events import Event, Finished, Tokens
from prfaas.policy.view import InstanceView

DEADLINE_GRACE_S = 5.0
"""The decode instance watches the deadline itself; the router's own limit only catches one that hangs."""
TOKEN_GAP_S = 120.0
"""No step of an engine, prefills of others included, takes so long."""
ACCOUNT_WAIT_S = 0.5
"""How long the end of an answer may wait for the account of a request that was stopped early."""

log = logging.getLogger(__name__)


class GenerateCall:
    """Events wait here until they are read, so that a slow client holds up no other one on the stream.

    They are no more than the request's `max_tokens`.
    """

    def __init__(
        self,
        stream: Attending,
        instance: InstanceView,
        message: pb.GenerateRequest,
        on_end: Callable[[], None],
        after: "asyncio.Future[None] | None" = None,
        *,
        whole: bool = False,
    ) -> None:
        """`whole`: nobody looks at the tokens between the first and the last, so nobody is woken for them."""
        self.request_id = message.request_id
        self.instance = instance
        self.over = False
        """Its last event has come, or the error that ended it: the instance has nothing of it any more."""
        self._whole = whole
        self._has_tokens = False
        self._tokens_left = message.sampling.max_tokens
        self._stream = stream
        self._on_end: Callable[[], None] | None = on_end
        self._outcomes: deque[Event | PrfaasError] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._patience_s = message.deadline_s + DEADLINE_GRACE_S
        self._patience = self._loop.call_later(self._patience_s, self._lose_patience)
        self._number = stream.begin(message, self, after)

    @property
    def ready(self) -> bool:
        """`read` would not wait."""
        return bool(self._outcomes)

    @property
    def lost(self) -> bool:
        """Its stream is gone, and nothing can be told to the instance on it."""
        return self._stream.loss is not None

    def take(self, outcome: Event | PrfaasError) -> None:
        """From the stream."""
        if self.over:
            return
        if isinstance(outcome, Tokens) and len(outcome.token_ids) > self._tokens_left:
            self._stream.stop(self._number, account=False)
            outcome = PrfaasError(f"{self.instance.instance_id} sent more tokens than it was asked for")
        if not isinstance(outcome, Tokens):
            self.over = True
            self._patience.cancel()
            self._put(outcome)
            return
        self._heard_s, self._patience_s = self._loop.time(), TOKEN_GAP_S
        self._tokens_left -= len(outcome.token_ids)
        if outcome.token_ids:
            self._put(outcome, wakes=not (self._whole and self._has_tokens))
            self._has_tokens = True

    async def read(self) -> Event:
        """The next event. Raises a PrfaasError where the call failed, or ended without its last event.

        DeadlineError where the instance lets the request's deadline pass in silence, or `TOKEN_GAP_S` after its last
        event: a process can live, and answer pings, while its engine hangs.
        """
        while not self._outcomes:
            self._reader = self._loop.create_future()
            await self._reader
        outcome = self._outcomes.popleft()
        if isinstance(outcome, PrfaasError):
            raise outcome
        return self._with_all_that_came(outcome) if self._whole and isinstance(outcome, Tokens) else outcome

    async def stop(self) -> pb.Account | None:
        """Ends the request early and returns its account, or None if that does not come at once."""
        if not self.over:
            self._stream.stop(self._number, account=True)
        try:
            async with asyncio.timeout(ACCOUNT_WAIT_S):
                while not isinstance(event := await self.read(), Finished):
                    pass
                return event.account
        except (TimeoutError, PrfaasError) as error:
            log.debug("request %s: no account after an early stop: %r", self.request_id, error)
            return None
        finally:
            self.end()

    def end(self) -> None:
        """Frees what the instance holds for the request; once is enough, more does no harm."""
        if self._on_end is None:
            return
        self._patience.cancel()
        if not self.over and not self.lost:
            self._stream.stop(self._number, account=False)
        self._stream.forget(self._number)
        self._on_end()
        self._on_end = None

    def _lose_patience(self) -> None:
        """One timer per request, set again while there are signs of life: cheaper than one per token."""
        left_s = self._heard_s + self._patience_s - self._loop.time()
        if left_s > 0:
            self._patience = self._loop.call_later(left_s, self._lose_patience)
            return
        silent = f"{self.instance.instance_id} sent neither a token nor an error within {self._patience_s:g} s"
        self._put(DeadlineError(silent))

    def _put(self, outcome: Event | PrfaasError, *, wakes: bool = True) -> None:
        self._outcomes.append(outcome)
        if wakes and self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _with_all_that_came(self, first: Tokens) -> Tokens:
        events = [first]
        while self._outcomes and isinstance(following := self._outcomes[0], Tokens):
            events.append(following)
            self._outcomes.popleft()
        token_ids = tuple(token_id for event in events for token_id in event.token_ids)
        return Tokens(token_ids, tuple(logprobs for event in events for logprobs in event.logprobs))
