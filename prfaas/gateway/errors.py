"""Failures as OpenAI clients expect them: a status, and `{"error": {"message", "type", "param", "code"}}`."""

import math
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from prfaas.core.errors import (
    CancelledError,
    CapacityError,
    ContendedError,
    DeadlineError,
    NotNowError,
    PeerLostError,
    PrfaasError,
    RateLimitError,
    RequestError,
    TransferError,
    UnavailableError,
)

RETRY_AFTER_S = 1
"""About the time in which an instance registers or the next heartbeat comes."""
CLIENT_GONE_STATUS = 499
INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
SERVICE_UNAVAILABLE = "service_unavailable_error"
RATE_LIMIT = "rate_limit_error"


class ApiError(Exception):
    """An answer other than 2xx, ready to be sent."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class ClientGoneError(CancelledError):
    """The client closed its connection before its answer ended."""


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every answer other than 2xx, and the last event of a stream that broke."""

    error: ErrorDetail


class _Answer(NamedTuple):
    status: int
    kind: str


# Looked up along the class tree, so that a subclass is answered as its parent unless it is named here.
_ANSWERS: dict[type[PrfaasError], _Answer] = {
    RequestError: _Answer(400, INVALID_REQUEST),
    # Every instance that could take it was asked and is too small: repeating the request cannot help.
    CapacityError: _Answer(400, INVALID_REQUEST),
    UnavailableError: _Answer(503, SERVICE_UNAVAILABLE),
    ContendedError: _Answer(429, RATE_LIMIT),
    RateLimitError: _Answer(429, RATE_LIMIT),
    ClientGoneError: _Answer(CLIENT_GONE_STATUS, INVALID_REQUEST),
    CancelledError: _Answer(502, SERVER_ERROR),
    PeerLostError: _Answer(502, SERVER_ERROR),
    TransferError: _Answer(502, SERVER_ERROR),
    DeadlineError: _Answer(504, SERVER_ERROR),
    PrfaasError: _Answer(500, SERVER_ERROR),
}


def from_prfaas(error: PrfaasError) -> ApiError:
    """The HTTP answer for a typed failure; its stable code becomes the `code`."""
    answer = next(_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS)
    retry_after_s = error.retry_after_s if isinstance(error, NotNowError) else None
    return ApiError(answer.status, str(error), kind=answer.kind, code=error.code, retry_after_s=retry_after_s)


def internal(request_id: str) -> ApiError:
    """For a bug: the message only names the log line, so that nothing internal leaks."""
    message = f"internal error; the router's log has the details of {request_id}"
    return ApiError(500, message, kind=SERVER_ERROR, code=PrfaasError.code)


def body(error: ApiError) -> bytes:
    """The JSON of an error."""
    return msgspec.json.encode(ErrorReply(ErrorDetail(error.message, error.kind, error.param, error.code)))


def response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """The whole answer; 429 and 503 say when to come back, in whole seconds."""
    wait_s = error.retry_after_s or RETRY_AFTER_S
    extra = {"retry-after": str(max(1, math.ceil(wait_s)))} if error.status in (429, 503) else {}
    return Response(body(error), error.status, {**extra, **(headers or {})}, "application/json")
