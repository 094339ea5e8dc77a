"""One client's connection: uvicorn's own, with an end for clients that hold it and do nothing. Knows no routes.

uvicorn waits for ever for heads, for the rest of bodies that nobody reads, and for clients that read no answers.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Literal, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from prfaas.gateway import errors
from prfaas.gateway.alarm import Alarm
from prfaas.gateway.connection_limits import ConnectionLimits
from prfaas.gateway.errors import SERVICE_UNAVAILABLE, ApiError
from prfaas.telemetry.connection_metrics import ConnectionMetrics, Cut

Stage = Literal["idle", "head", "answer", "rest", "closing"]
"""No request; a head that is not complete; an answer under way; a body that nobody reads any more; the last bytes."""

LATE = ApiError(408, "the head of the request did not arrive in time", code="request_timeout")
MALFORMED = ApiError(400, "this is not a valid HTTP request", code="invalid_request")
TOO_LARGE = ApiError(431, "the head of the request is too large; send fewer or shorter headers", code="head_too_large")
TOO_MANY = ApiError(503, "the server has as many connections as it may", kind=SERVICE_UNAVAILABLE, code="unavailable")


class HttpConnection(HttpToolsProtocol):
    """`limited` makes a class with limits of it, which is what uvicorn takes."""

    limits: ConnectionLimits
    metrics: ConnectionMetrics

    @classmethod
    def limited(cls, limits: ConnectionLimits, metrics: ConnectionMetrics) -> "type[HttpConnection]":
        return type(cls.__name__, (cls,), {"limits": limits, "metrics": metrics})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = False
        self._running: RequestResponseCycle | None = None
        self._head_bytes: int | None = None
        """Of a head that is not complete; None: there is none."""
        self._fed_bytes = 0
        """At once: no head that comes with them is larger."""
        self._stage: Stage = "answer"
        self._stage_ends = Alarm(self.loop, self._time_is_up)
        self._unsent_bytes = 0
        self._stall_ends = Alarm(self.loop, self._check_progress)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Beyond `max_connections`: says so, and takes no request."""
        self._refused = len(self.connections) >= self.limits.max_connections
        super().connection_made(transport)
        self.metrics.open.inc()
        if self._refused:
            self.connections.discard(self)
            self.metrics.refused.inc()
            transport.write(self._raw(TOO_MANY))
            transport.write_eof()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells the request that came last; it is the one under way that has to stop."""
        self.metrics.open.dec()
        self._stage_ends.stop()
        self._stall_ends.stop()
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._fed_bytes = len(data)
        if self._head_bytes is not None:
            self._head_bytes += self._fed_bytes
        super().data_received(data)
        if (self._head_bytes or 0) > self.limits.max_head_bytes:
            self._end("head_large", TOO_LARGE)
        self._watch()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head that came at once can be too large, too; it is answered in its turn."""
        at_most, self._head_bytes = self._fed_bytes + (self._head_bytes or 0), None
        if at_most > self.limits.max_head_bytes and self._head_size() > self.limits.max_head_bytes:
            self.metrics.cut("head_large")
            self.app = cast("ASGI3Application", errors.response(TOO_LARGE, {"connection": "close"}))
        super().on_headers_complete()
        if len(self.pipeline) > self.limits.max_pipelined:
            self._end("pipelined")
        elif self.pipeline:
            self.flow.resume_reading()  # else nobody would notice that the client left

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn leaves it where the answer was quicker than the body

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # `_watch` does that
        self._watch()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered; so the request waits, which is fine for a while."""
        super().pause_writing()
        self._await_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall_ends.set(None)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 — uvicorn's words, for which ours stand in
        """In the form of all other errors."""
        self._end("malformed", MALFORMED)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _watch(self) -> None:
        """Sets the timer for what the client is to do next. To be called after whatever may change it."""
        stage = self._current_stage()
        if stage == self._stage:
            return
        self._stage = stage
        self._stage_ends.set(self._patience_s(stage))

    def _patience_s(self, stage: Stage) -> float | None:
        limits = self.limits
        match stage:
            case "idle":
                return limits.idle_timeout_s
            case "head":
                return limits.head_timeout_s
            case "rest":
                return limits.rest_s
            case "closing":
                return limits.farewell_s if self._refused else limits.rest_s
            case "answer":
                return None

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _current_stage(self) -> Stage:
        if self._refused or self.transport.is_closing():
            return "closing"
        if self.cycle is not None and not self.cycle.response_complete:
            return "answer"
        if self._head_bytes is not None:
            return "head"
        return "rest" if self.cycle is not None and self.cycle.more_body else "idle"

    def _time_is_up(self) -> None:
        match self._stage:
            case "idle":
                self._end("idle")
            case "head":
                self._end("head_slow", LATE)
            case "rest":
                self._end("body_unread")
            case _:
                self.transport.abort()

    def _await_progress(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._stall_ends.set(self.limits.stalled_s)

    def _check_progress(self) -> None:
        if self._unsent_bytes - self.transport.get_write_buffer_size() >= self.limits.min_progress_bytes:
            self._await_progress()
            return
        self.metrics.cut("stalled")
        self.transport.abort()

    def _end(self, reason: Cut, error: ApiError | None = None) -> None:
        """Ends the connection; `error` is told unless another answer is under way."""
        if self.transport.is_closing():
            return
        self.metrics.cut(reason)
        if error and self._current_stage() != "answer":
            self.transport.write(self._raw(error))
        self.transport.close()
        self._watch()

    def _raw(self, error: ApiError) -> bytes:
        """A whole answer, for what does not get as far as the app."""
        body = errors.body(error)
        headers = [
            *self.server_state.default_headers,
            *errors.response(error, {"connection": "close"}).raw_headers,
        ]
        status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n".encode()
        return status + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body
