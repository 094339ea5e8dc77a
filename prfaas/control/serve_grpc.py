"""gRPC servers of the control plane: plain, or with TLS and the fleet's rule for the names of callers."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc

from prfaas.control.credentials import Credentials
from prfaas.control.dial import SERVER_OPTIONS

SAN_PROPERTY = "x509_subject_alternative_name"
"""What gRPC calls the names in a peer's certificate."""

Serving = Callable[[Any, Any], Awaitable[Any]]

log = logging.getLogger(__name__)


def grpc_server(credentials: Credentials | None, max_calls: int | None = None) -> grpc.aio.Server:
    """A server without ports; beyond `max_calls` at once it refuses."""
    interceptors = [_NameCheck(credentials)] if credentials else []
    return grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS, maximum_concurrent_rpcs=max_calls)


def add_port(server: grpc.aio.Server, address: str, credentials: Credentials | None) -> int:
    """The port that was bound. Raises RuntimeError if none was, without saying why."""
    if credentials is None:
        return int(server.add_insecure_port(address))
    return int(server.add_secure_port(address, credentials.grpc_server()))


class _NameCheck(grpc.aio.ServerInterceptor):
    """gRPC has checked that a caller's certificate is the authority's; this checks whom it is for."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._told: set[str] = set()
        """Refusals by what they say; only certificates of our authority come this far, so they are few."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method
            return handler
        streams = handler.request_streaming
        serving = cast(
            "Serving | None", handler.stream_stream if streams else handler.unary_stream or handler.unary_unary
        )
        assert serving, "our services answer with a stream what comes as one"

        async def checked(request: Any, context: Any) -> Any:
            await self._check(context)
            return await serving(request, context)

        return _maker(handler)(checked, handler.request_deserializer, handler.response_serializer)

    async def _check(self, context: Any) -> None:
        names = [name.decode("ascii", "replace") for name in context.auth_context().get(SAN_PROPERTY, ())]
        refusal = self._credentials.refusal(names)
        if refusal is None:
            return
        self._credentials.count_refused("control")
        # Whoever is refused asks again and again.
        log.log(
            logging.DEBUG if refusal in self._told else logging.WARNING, "%s is refused: %s", context.peer(), refusal
        )
        self._told.add(refusal)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"you are refused: {refusal}")


def _maker(handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[..., "grpc.RpcMethodHandler[Any, Any]"]:
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler
    return grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
