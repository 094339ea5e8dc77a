"""The events of one request, as the service that asked for it reads them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from prfaas.core.errors import CancelledError, from_code
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason
from prfaas.engine.messages import Command, Failed, Generated, LayerDone, Release, RequestEvent

Listener = Callable[[RequestEvent], None]
"""Sees each event as it arrives, before whoever reads the stream, and alone sees LayerDone; must not block."""

TokenFollower = Callable[[Generated], None]
"""Takes a token as it arrives; must not block."""


class Sender(Protocol):
    """What a stream needs of the engine's front."""

    def send(self, command: Command) -> None:
        """Takes commands in order."""
        ...

    def detach(self, request_id: RequestId) -> None:
        """Routes no more events of a request."""
        ...


class RequestStream:
    """Events of one request, until `close`."""

    def __init__(self, front: Sender, request_id: RequestId, listener: Listener | None = None) -> None:
        self._front = front
        self.request_id = request_id
        """What the engine calls the request: its id made unique, since two calls may come with one id."""
        self._listener = listener
        self._events: asyncio.Queue[RequestEvent] = asyncio.Queue()
        self._following: _Following | None = None

    def put(self, event: RequestEvent) -> None:
        if self._listener is not None:
            self._listener(event)
        if self._following is not None:
            self._following.take(event)
        elif not isinstance(event, LayerDone):
            self._events.put_nowait(event)

    def interrupt(self) -> None:
        """Makes `next` raise CancelledError after the events that came before."""
        self.put(Failed(self.request_id, CancelledError.code, "the request was cancelled"))

    async def next(self) -> RequestEvent:
        """Raises the typed error when the engine failed the request."""
        event = await self._events.get()
        if isinstance(event, Failed):
            raise from_code(event.code, event.message)
        return event

    async def follow(self, first: Generated, follower: TokenFollower) -> FinishReason:
        """Gives `first` and all tokens after it to `follower`, as they come: no task is woken for any but the last.

        Raises the typed error when the engine failed the request.
        """
        following = self._following = _Following(follower)
        following.take(first)
        while not self._events.empty():
            following.take(self._events.get_nowait())
        return await following.finish

    def detach(self) -> None:
        """Stops listening and leaves the request running: someone else will release it."""
        self._front.detach(self.request_id)

    def close(self) -> None:
        """Stops listening and frees all that the request holds; once is enough, more does no harm."""
        self.detach()
        self.release()

    def release(self) -> None:
        """Frees all that the request holds, in whatever state it is."""
        self._front.send(Release(self.request_id))


class _Following:
    """The part of a request in which tokens are all that happens."""

    def __init__(self, follower: TokenFollower) -> None:
        self._follower = follower
        self.finish: asyncio.Future[FinishReason] = asyncio.get_running_loop().create_future()

    def take(self, event: RequestEvent) -> None:
        if self.finish.done():
            return  # it was interrupted, or its reader is cancelled
        if isinstance(event, Generated):
            self._follower(event)
            if event.finish is not None:
                self.finish.set_result(event.finish)
        elif isinstance(event, Failed):
            self.finish.set_exception(from_code(event.code, event.message))
