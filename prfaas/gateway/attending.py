"""One stream to one decode instance, for all requests that this router has there. Knows no placements."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import grpc

from prfaas.control.convert import from_rpc_error
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import PeerLostError, PrfaasError
from prfaas.gateway.events import Event, Tokens, event_from_pb

MAX_MESSAGE_TOKENS = 1 << 18
"""With so many prompt tokens, no more than 1.3 MB, a message takes no further request."""

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """One request on the stream; no call of it waits."""

    def take(self, outcome: Event | PrfaasError) -> None:
        """The next event, or the error that ends the request."""


class Attending:
    """Open from its making until it is lost or closed; gRPC connects it, so that making it takes no time."""

    def __init__(self, channel: grpc.aio.Channel, peer: str, on_loss: Callable[[PrfaasError], None]) -> None:
        self.channel = channel
        self.loss: PrfaasError | None = None
        """Why it is of no use any more."""
        self._peer = peer
        self._on_loss = on_loss
        self._rpc = InstanceStub(channel).Attend()
        self._receivers: dict[int, Receiver] = {}
        self._last_call = 0
        self._unsent: deque[pb.AttendCommand] = deque()
        self._some_unsent = asyncio.Event()
        self._retired = False
        self._writing = asyncio.create_task(self._write())
        self._reading = asyncio.create_task(self._read())

    @property
    def num_calls(self) -> int:
        return len(self._receivers)

    def begin(
        self, message: pb.GenerateRequest, receiver: Receiver, after: "asyncio.Future[None] | None" = None
    ) -> int:
        """Sends a request, after something else has come to its end, and gives its number; what becomes of it goes to
        `receiver`."""
        self._last_call += 1
        self._receivers[self._last_call] = receiver
        command = pb.AttendCommand(call=self._last_call, generate=message)
        if after is None:
            self._send(command)
        else:
            after.add_done_callback(lambda _: self._send_if_wanted(command))
        return self._last_call

    def stop(self, call: int, *, account: bool) -> None:
        """Tells the instance that no more tokens of a call are wanted."""
        self._send(pb.AttendCommand(call=call, stop=pb.StopCall(account=account)))

    def forget(self, call: int) -> None:
        """Whatever still comes of a call goes nowhere."""
        self._receivers.pop(call, None)
        if self._retired and not self._receivers:
            self._rpc.cancel()

    def retire(self) -> None:
        """Ends with its last call; no new one begins here."""
        self._retired = True
        if not self._receivers:
            self._rpc.cancel()

    async def close(self) -> None:
        """Ends at once, with all its calls."""
        self._retired = True
        self._rpc.cancel()
        await asyncio.wait([self._reading])

    def _send_if_wanted(self, command: pb.AttendCommand) -> None:
        if command.call in self._receivers:
            self._send(command)

    def _send(self, command: pb.AttendCommand) -> None:
        self._unsent.append(command)
        self._some_unsent.set()

    async def _write(self) -> None:
        """What cannot be written is noticed by the reader, which hears why."""
        try:
            while True:
                await self._some_unsent.wait()
                await self._rpc.write(self._gathered())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            log.debug("%s takes no more commands: %r", self._peer, error)

    def _gathered(self) -> pb.AttendCommands:
        """What waits, as far as it fits into one message."""
        message, room_tokens = pb.AttendCommands(), MAX_MESSAGE_TOKENS
        while self._unsent and room_tokens > 0:
            command = self._unsent.popleft()
            room_tokens -= len(command.generate.prompt_token_ids)
            message.commands.append(command)
        if not self._unsent:
            self._some_unsent.clear()
        return message

    async def _read(self) -> None:
        loss: PrfaasError = PeerLostError(f"{self._peer} ended the stream of its requests")
        try:
            while isinstance(message := await self._rpc.read(), pb.AttendEvents):
                self._hand_out(message)
        except grpc.aio.AioRpcError as error:
            loss = from_rpc_error(error, self._peer)
        except asyncio.CancelledError as error:
            # gRPC raises this also where the *peer* cancelled the stream; only our own cancellation may pass.
            loss = from_rpc_error(error, self._peer)
            if (task := asyncio.current_task()) and task.cancelling():
                raise
        finally:
            self._lose(loss)

    def _hand_out(self, message: pb.AttendEvents) -> None:
        receivers = self._receivers
        for tokens in message.tokens:
            if receiver := receivers.get(tokens.call):
                receiver.take(Tokens(tuple(tokens.token_ids)))
        for said in message.events:
            if receiver := receivers.get(said.call):
                receiver.take(event_from_pb(said.event, self._peer))

    def _lose(self, loss: PrfaasError) -> None:
        self.loss = loss
        self._writing.cancel()
        self._rpc.cancel()
        lost, self._receivers = self._receivers, {}
        if not self._retired or lost:
            log.warning("the stream to %s was lost with %d requests: %s", self._peer, len(lost), loss)
            self._on_loss(loss)
        for receiver in lost.values():
            receiver.take(type(loss)(str(loss)))
