"""`GET /fleet/events`: the fleet as server-sent events, for as long as the client listens. Knows no fleet."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prfaas.core.errors import DrainingError
from prfaas.gateway.errors import ClientGoneError
from prfaas.gateway.fleet_watch import FleetWatch, Listener
from prfaas.gateway.gate import Gate
from prfaas.gateway.stream import HEADERS

RECONNECT = b"retry: 2000\n\n"
"""Milliseconds until a browser comes again by itself."""


class FleetEventStream(Response):
    """Joins when the answer begins, and leaves when it ends, however it does."""

    def __init__(self, watch: FleetWatch, gate: Gate) -> None:
        super().__init__()
        self._watch = watch
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — Starlette's form
        listener = self._watch.join()
        try:
            await self._gate.until_gone(receive, _pump(listener, send))
        except (ClientGoneError, DrainingError):
            pass  # nobody is left to be told
        finally:
            self._watch.leave(listener)


async def _pump(listener: Listener, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    event: bytes | None = RECONNECT
    while event is not None:
        await send({"type": "http.response.body", "body": event, "more_body": True})
        event = await listener.next()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
