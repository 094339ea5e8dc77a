"""The engine's asyncio side: commands in, and each request's events out on a queue of its own."""

import asyncio
from dataclasses import replace

from prfaas.core.errors import CancelledError, EngineError, from_code
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.engine.engine import Engine
from prfaas.engine.messages import Command, Event, Failed, KvSink, Release, Stats, Submit
from prfaas.scheduler.sequence import Mode


class RequestStream:
    """Events of one request, until `close`."""

    def __init__(self, front: "Front", request_id: RequestId) -> None:
        self._front = front
        self.request_id = request_id
        """What the engine calls the request: its id made unique, since two calls may come with one id."""
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        self._events.put_nowait(event)

    def interrupt(self) -> None:
        """Makes `next` raise CancelledError after the events that came before."""
        self.put(Failed(self.request_id, CancelledError.code, "the request was cancelled"))

    async def next(self) -> Event:
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


class Front:
    """Submits to the engine and routes its events, all on one event loop."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._streams: dict[RequestId, RequestStream] = {}
        self._opened = 0
        self.engine_died = asyncio.Event()

    @property
    def stats(self) -> Stats:
        return self._engine.stats

    @property
    def layers_computed(self) -> int:
        return self._engine.layers_computed

    @property
    def num_open(self) -> int:
        return len(self._streams)

    def start(self) -> None:
        self._engine.start(self._emit, self._engine_broke)

    def send(self, command: Command) -> None:
        self._engine.send(command)

    def open(self, request: Request, mode: Mode, sink: KvSink | None = None) -> RequestStream:
        """Submits a request. Raises EngineError when the engine is broken."""
        if self.engine_died.is_set():
            raise EngineError("the engine broke; this instance is going down")
        self._opened += 1
        unique = RequestId(f"{request.request_id}#{self._opened}")
        stream = RequestStream(self, unique)
        self._streams[unique] = stream
        self._engine.send(Submit(replace(request, request_id=unique), mode, sink))
        return stream

    def detach(self, request_id: RequestId) -> None:
        self._streams.pop(request_id, None)

    def _engine_broke(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fail_all)

    def _fail_all(self) -> None:
        self.engine_died.set()
        for request_id, stream in self._streams.items():
            stream.put(Failed(request_id, EngineError.code, "the engine broke"))

    def _emit(self, events: list[Event]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._route, events)

    def _route(self, events: list[Event]) -> None:
        for event in events:
            if stream := self._streams.get(event.request_id):
                stream.put(event)
