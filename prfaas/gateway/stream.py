"""Server-sent events: an answer as chunks while it is made."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec import UNSET
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prfaas.core.errors import PrfaasError
from prfaas.gateway import errors
from prfaas.gateway.choices import Choices
from prfaas.gateway.errors import ApiError, ClientGoneError
from prfaas.gateway.forms import Ending, Form
from prfaas.gateway.gate import Gate
from prfaas.gateway.replies import FinishWord, Usage

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that buffer would turn the stream into one late block.
    (b"x-accel-buffering", b"no"),
)
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
        self._answering = answering
        self._form = form
        self._gate = gate
        self._on_failure = on_failure
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._gate.until_gone(receive, self._pump(send))
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

    async def _pump(self, send: Send) -> None:
        async with self._answering as choices:
            async for piece in choices:
                if not self._started:
                    await self._start(send)
                if piece.choice not in self._opened:
                    await self._open(send, piece.choice, choices)
                if piece.text or piece.tokens:
                    await _send_events(send, self._form.piece(piece, self._so_far(choices)))
                if piece.finish_reason:
                    await self._close(send, piece.choice, piece.finish_reason, choices)
            if self._form.head.include_usage:
                await _send_events(send, self._form.usage(self._ending(choices)))
        await send({"type": "http.response.body", "body": self._form.done, "more_body": False})

    async def _open(self, send: Send, choice: int, choices: Choices) -> None:
        self._opened.add(choice)
        if opening := self._form.opening(choice, self._so_far(choices)):
            await _send_events(send, opening)

    async def _close(self, send: Send, choice: int, reason: FinishWord, choices: Choices) -> None:
        last = choices.finished and not self._form.head.include_usage
        traces = self._ending(choices).traces if last else UNSET
        await _send_events(send, self._form.closing(choice, reason, self._so_far(choices), traces))

    def _so_far(self, choices: Choices) -> Usage | None:
        return choices.usage() if self._counted else None

    def _ending(self, choices: Choices) -> Ending:
        return Ending(choices.usage(), choices.traces() if self._traced else UNSET)

    async def _start(self, send: Send) -> None:
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})

    async def _send_error(self, send: Send, error: ApiError) -> None:
        await send({"type": "http.response.body", "body": self._form.failure(error), "more_body": False})


async def _send_events(send: Send, events: bytes) -> None:
    await send({"type": "http.response.body", "body": events, "more_body": True})
