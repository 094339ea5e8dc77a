"""The events of one request, as the service that asked for it reads them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from prfaas.core.errors import CancelledError, from_code
from prfaas.core.ids import RequestId
from prfaas.engine.messages import Command, Failed, LayerDone, Release, RequestEvent

Listener = Callable[[RequestEvent], None]
"""Sees each event as it arrives, before whoever reads the stream, and alone sees LayerDone; must not block."""


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

    def put(self, event: RequestEvent) -> None:
        if self._listener is not None:
            self._listener(event)
        if not isinstance(event, LayerDone):
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
