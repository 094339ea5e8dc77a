"""The outermost layer of the HTTP app: names every request, counts it, and answers even our own bugs in form."""

import logging

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prfaas.core.errors import DrainingError
from prfaas.core.ids import new_request_id
from prfaas.gateway import errors
from prfaas.gateway.client_request_id import REQUEST_ID_HEADER, client_request_id
from prfaas.gateway.gate import Gate
from prfaas.gateway.stream import SEND_BODY
from prfaas.telemetry.metrics import RouterMetrics

ID_PREFIXES = {"/v1/chat/completions": "chatcmpl", "/v1/completions": "cmpl", "/v1/responses": "resp"}
"""Paths that generate, with the prefix of their request ids; only these wait at the gate."""
OTHER = "other"
"""The metric label of every path that is not a route, so that scanners cannot create time series."""

log = logging.getLogger(__name__)


class Edge:
    """ASGI middleware; an exception that no handler knew is logged, counted and answered here."""

    def __init__(self, app: ASGIApp, gate: Gate, metrics: RouterMetrics) -> None:
        self._app = app
        self._gate = gate
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix = ID_PREFIXES.get(scope["path"])
        request_id = new_request_id(prefix or "req")
        scope.setdefault("state", {}).update({"request_id": request_id, SEND_BODY: send})
        head = _Head(send, client_request_id(scope["headers"]) or request_id)
        try:
            await self._pass(scope, receive, head, generates=prefix is not None)
        except DrainingError as error:
            self._metrics.failures.labels(error.code).inc()
            await errors.response(errors.from_prfaas(error))(scope, receive, head.send)
        except Exception:
            log.exception("request %s: unhandled error", request_id)
            self._metrics.failures.labels("internal").inc()
            if head.status:
                raise  # half an answer was sent; the server closes the connection
            await errors.response(errors.internal(request_id))(scope, receive, head.send)
        finally:
            endpoint = scope["path"] if prefix else getattr(scope.get("route"), "path", OTHER)
            self._metrics.requests.labels(endpoint, str(head.status or errors.CLIENT_GONE_STATUS)).inc()

    async def _pass(self, scope: Scope, receive: Receive, head: "_Head", *, generates: bool) -> None:
        if not generates:
            await self._app(scope, receive, head.send)
            return
        with self._gate.admitted():
            await self._app(scope, receive, head.send)


class _Head:
    """Watches the head of one response go out, and puts the request id, or the client's own, into it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._request_id
        await self._send(message)
