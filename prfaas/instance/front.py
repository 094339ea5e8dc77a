"""The engine's asyncio side: commands in, and each request's events out on a stream of its own."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from msgspec.structs import asdict

from prfaas.cache.changes import Change
from prfaas.core.errors import EngineError, from_code
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.engine.link import FrontLink
from prfaas.engine.messages import (
    CacheChanged,
    Command,
    Event,
    Failed,
    Generated,
    Lend,
    NotReady,
    Preempted,
    Ready,
    RequestEvent,
    Reserve,
    Stats,
    Stepped,
    Stop,
    Submit,
)
from prfaas.instance.prefill_speed import PrefillSpeed
from prfaas.instance.rates import MeasuredRates
from prfaas.instance.stream import Listener, RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics

log = logging.getLogger(__name__)


STOP_WITHIN_S = 10.0
"""A step, and the end of the interpreter; what takes longer hangs."""


CacheListener = Callable[[Sequence[Change]], None]
"""Hears of all that the engine's prefix cache begins and ceases to hold, in order; must not block."""


def nobody_listens(_: Sequence[Change]) -> None:
    """The listener of an instance that publishes nothing."""


class EngineHost(Protocol):
    """Where an engine runs: a process of its own, or a thread of a test's."""

    async def ended(self) -> str:
        """Returns when the engine has ended, with how: words for a person. Any number of callers may wait."""
        ...

    async def stop(self, within_s: float) -> None:
        """Returns when the engine, which has been told to stop, has ended; makes it end if that takes longer."""
        ...


class Front:
    """Submits to the engine and routes its events, all on one event loop."""

    def __init__(
        self,
        link: FrontLink,
        host: EngineHost,
        metrics: InstanceMetrics,
        stats: Stats,
        on_cache_changed: CacheListener,
    ) -> None:
        self._link = link
        self._host = host
        self._metrics = metrics
        self.stats = stats
        """The engine's last reading."""
        self._loop = asyncio.get_running_loop()
        self._streams: dict[RequestId, RequestStream] = {}
        self._opened = 0
        self._unsent: list[Command] = []
        self._on_cache_changed = on_cache_changed
        self.on_stats: Callable[[], None] = lambda: None
        """Hears that `stats` has changed; must not block."""
        self._speed = PrefillSpeed()
        self.rates = MeasuredRates(self._loop.time)
        """What the engine takes for prompts and steps, as it went so far."""
        self._closed = False
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._watching = asyncio.create_task(self._watch())
        self.engine_died = asyncio.Event()
        """Set when the engine has ended without being told to."""
        self.death = ""
        """How it ended."""
        self._loop.add_reader(link.fileno(), self._take)

    @property
    def num_open(self) -> int:
        return len(self._streams)

    def prefill_s(self, tokens: int) -> float | None:
        """What the engine would take for a prompt of so many tokens, as it went so far; None before it did any."""
        return self._speed.seconds(tokens)

    async def ready(self) -> Ready:
        """Waits for the model to be loaded. Raises what kept the engine from it: ModelError, EngineError, ..."""
        # Whoever gives up waiting must not end the wait: `stop` asks whether the engine ever listened.
        return await asyncio.shield(self._ready)

    async def stop(self) -> None:
        """Ends the engine after the step that runs now; once is enough, more does no harm."""
        if self._closed:
            return
        self._watching.cancel()
        self.send(Stop())
        self._flush()
        # One that still loads its model listens to nobody.
        await self._host.stop(STOP_WITHIN_S if self._ready.done() else 0.0)
        self._closed = True
        self._loop.remove_reader(self._link.fileno())
        self._link.close()

    def send(self, command: Command) -> None:
        """Commands are taken in order, between steps; an engine that has ended needs none."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(command)

    def open(self, request: Request, mode: Mode, listener: Listener | None = None) -> RequestStream:
        """Submits a request. Raises EngineError when the engine is broken."""
        return self._open(request, lambda unique: Submit(unique, mode), listener)

    def lend(self, request: Request, listener: Listener) -> RequestStream:
        """Holds what is cached of exactly this prompt while it is sent elsewhere. Raises as `open`."""
        return self._open(request, Lend, listener)

    def reserve(self, request: Request) -> RequestStream:
        """Memory for a prefix that another instance's cache sends. Raises as `open`."""
        return self._open(request, Reserve, None)

    def _open(
        self, request: Request, command: Callable[[Request], Command], listener: Listener | None
    ) -> RequestStream:
        if self.engine_died.is_set():
            raise EngineError("the engine broke; this instance is going down")
        self._opened += 1
        unique = RequestId(f"{request.request_id}#{self._opened}")
        stream = RequestStream(self, unique, listener)
        self._streams[unique] = stream
        self.send(command(replace(request, request_id=unique)))
        return stream

    def detach(self, request_id: RequestId) -> None:
        self._streams.pop(request_id, None)
        self.rates.forget(request_id)

    def _flush(self) -> None:
        if self._unsent and not self._closed:
            # An engine that is gone is noticed by its end, not here.
            self._link.send(self._unsent)
            self._unsent = []
            # To send may swallow the sign that something has come.
            self._take()

    def _take(self) -> None:
        while events := self._link.take(wait=False):
            self._route(events)

    def _route(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Stats():
                    self.stats = event
                    disk = event.prefix.disk
                    self._metrics.prefix.read(asdict(event.prefix), asdict(disk) if disk else None)
                    self.on_stats()
                case CacheChanged(changes):
                    self._on_cache_changed(changes)
                case Stepped():
                    self._speed.observe(event.prefill_tokens, event.seconds)
                    self.rates.stepped(event)
                    self._metrics.stepped(
                        event.seconds, event.forward_seconds, event.decode_tokens, event.prefill_tokens
                    )
                    self._metrics.emulation.stepped(event.late_s)
                case Preempted():
                    self._metrics.preemptions.inc()
                case Ready():
                    self._metrics.compiled_kernels.set(event.compiled_kernels)
                    self._metrics.engine_device.labels(event.device).set(1)
                    self._ready.set_result(event)
                case NotReady(code, message):
                    self._ready.set_exception(from_code(code, message))
                case _:
                    self._route_one(event)

    def _route_one(self, event: RequestEvent) -> None:
        """To whoever asked for the request."""
        if isinstance(event, Failed) and event.reason is not None:
            self._metrics.engine_failures.labels(event.reason).inc()
        elif isinstance(event, Generated):
            self.rates.generated(event.request_id, ended=event.finish is not None)
        if stream := self._streams.get(event.request_id):
            stream.put(event)

    async def _watch(self) -> None:
        self.death = await self._host.ended()
        if not self._ready.done():
            self._ready.set_exception(EngineError(f"{self.death} before it was ready; its log says why"))
        elif self._ready.exception() is None:
            self._fail_all()

    def _fail_all(self) -> None:
        log.critical("%s; all its requests fail", self.death)
        self.engine_died.set()
        for request_id, stream in list(self._streams.items()):
            stream.put(Failed(request_id, EngineError.code, self.death))
