"""Server-sent events: an answer as chunks while it is made."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec import UNSET
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prfaas.core.errors import PrfaasError
from prfaas.gateway import errors
from prfaas.gateway.answer import Piece
from prfaas.gateway.choices import Choices
from prfaas.gateway.errors import ApiError, ClientGoneError
from prfaas.gateway.forms import Ending, Form
from prfaas.gateway.gate import Gate

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that buffer would turn the stream into one late block.
    (b"x-accel-buffering", b"no"),
)
SEND_BODY = "send_body"
"""In an ASGI scope's state: what takes a body once its head is out, past all layers that only look at heads."""

log = logging.getLogger(__name__)


class AnswerStream(Response):
    """Sends an answer as it comes. Nothing is sent before the first token, so that early failures keep their status.

    Once a byte was sent, a failure is the stream's last event and nothing marks a good end.
    """

    def __init__(
        self,
        answering: AbstractAsyncContextManager[Choices],
        form: Form,
        gate: Gate,
        on_failure: Callable[[PrfaasError], None],
        *,
        traced: bool,
        counted: bool,
    ) -> None:
        """`traced`: the account comes last; `counted`: every chunk tells what was used so far."""
        super().__init__()
        self._counted = counted
        self._traced = traced
        self._opened: set[int] = set()
        self._unsent: list[bytes] = []
        self._answering = answering
        self._form = form
        self._gate = gate
        self._on_failure = on_failure
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._gate.until_gone(receive, self._pump(send, scope["state"].get(SEND_BODY, send)))
        except PrfaasError as error:
            if not self._started:
                raise
            self._on_failure(error)
            if not isinstance(error, ClientGoneError):
                await self._send_error(send, errors.from_prfaas(error))
        except Exception:
            if not self._started:
                raise
            request_id = scope["state"]["request_id"]
            log.exception("request %s: unhandled error in its stream", request_id)
            self._on_failure(PrfaasError("unhandled"))
            await self._send_error(send, errors.internal(request_id))

    async def _pump(self, send: Send, send_body: Send) -> None:
        async with self._answering as choices:
            async for piece in choices:
                if not self._started:
                    await self._start(send)
                self._write(piece, choices)
                # What came together goes together, and the end with what comes after it.
                if not (choices.ready or (piece.finish_reason and choices.finished)):
                    await self._send(send_body)
            if self._form.head.include_usage:
                self._unsent.append(self._form.usage(self._ending(choices)))
        self._unsent.append(self._form.done)
        await self._send(send_body, more=False)

    def _write(self, piece: Piece, choices: Choices) -> None:
        used = choices.usage() if self._counted else None
        if piece.choice not in self._opened:
            self._opened.add(piece.choice)
            if opening := self._form.opening(piece.choice, used):
                self._unsent.append(opening)
        if piece.text or piece.tokens:
            self._unsent.append(self._form.piece(piece, used))
        if piece.finish_reason:
            last = choices.finished and not self._form.head.include_usage
            traces = self._ending(choices).traces if last else UNSET
            self._unsent.append(self._form.closing(piece.choice, piece.finish_reason, used, traces))

    def _ending(self, choices: Choices) -> Ending:
        return Ending(choices.usage(), choices.traces() if self._traced else UNSET)

    async def _start(self, send: Send) -> None:
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})

    async def _send_error(self, send: Send, error: ApiError) -> None:
        self._unsent.append(self._form.failure(error))
        await self._send(send, more=False)

    async def _send(self, send: Send, *, more: bool = True) -> None:
        body, self._unsent = b"".join(self._unsent), []
        if body or not more:
            await send({"type": "http.response.body", "body": body, "more_body": more})
