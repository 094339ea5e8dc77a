"""Asks for API keys, where some are configured, and for nothing else: what a request may cost is decided further in."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from prfaas.core.errors import RateLimitError
from prfaas.gateway import errors
from prfaas.gateway.errors import ApiError
from prfaas.gateway.tenants import Tenant, Tenants
from prfaas.telemetry.metrics import RouterMetrics

OPEN_PATHS = ("/health", "/ready", "/metrics", "/fleet", "/ui", "/docs", "/openapi.json")
"""These and what is below them are answered without a key; every path that is added later needs one."""


class Guard:
    """ASGI middleware inside the edge: behind it, `state.tenant` is who sent the request."""

    def __init__(self, app: ASGIApp, tenants: Tenants, metrics: RouterMetrics) -> None:
        self._app = app
        self._tenants = tenants
        self._metrics = metrics
        self._anybody = Tenant()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["tenant"] = self._tenant(scope)
        except ApiError as error:
            await errors.response(error, {"www-authenticate": "Bearer"})(scope, receive, send)
        except RateLimitError as error:
            self._metrics.failures.labels(error.code).inc()
            await errors.response(errors.from_prfaas(error))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _tenant(self, scope: Scope) -> Tenant:
        """Raises ApiError 401 for a key that is missing or unknown, RateLimitError for one that is used too fast."""
        if not self._tenants.closed or scope["method"] == "OPTIONS" or _is_open(scope["path"]):
            return self._anybody
        tenant = self._tenants.find(_bearer(scope))
        if tenant is None:
            self._metrics.admission.unauthorized.inc()
            message = "no valid API key: send one as `Authorization: Bearer KEY`"
            raise ApiError(401, message, code="invalid_api_key")
        self._metrics.admission.tenant_requests.labels(tenant.name).inc()
        try:
            tenant.count_request()
        except RateLimitError:
            self._metrics.admission.refused("requests_rate", tenant.own_priority)
            raise
        return tenant


def _is_open(path: str) -> bool:
    return any(path == known or path.startswith(f"{known}/") for known in OPEN_PATHS)


def _bearer(scope: Scope) -> bytes:
    """The key as it was sent; empty where there is none, or more than one."""
    sent = Headers(scope=scope).getlist("authorization")
    scheme, _, key = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
