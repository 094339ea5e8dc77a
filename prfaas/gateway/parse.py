"""From the bytes of a body, and headers, to validated values; every fault becomes an ApiError that names its field."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from prfaas.config.sections import Priority
from prfaas.gateway import body_limits
from prfaas.gateway.errors import ApiError, ClientGoneError
from prfaas.gateway.generation_body import GenerationBody
from prfaas.policy.view import Force

B = TypeVar("B", bound=GenerationBody)

TRACE_HEADER = "x-prfaas-trace"
PREFILL_HEADER = "x-prfaas-prefill"
PRIORITY_HEADER = "x-prfaas-priority"
MAX_FAULTS = 5
MAX_LISTED = 1000
"""Of more faults only the number is told: the report of a million takes seconds, in which no other answer moves."""
BODY_TIMEOUT_S = 60.0


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises ApiError 413 as soon as it is known to be too long, 408 when it does not come, 415 when it is compressed.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        message = f"the body comes with content-encoding {encoding!r}; send it uncompressed"
        raise ApiError(415, message, param="content-encoding", code="unsupported_content_encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s", code="request_timeout") from None
    except ClientDisconnect:
        raise ClientGoneError("the client left while it sent its request") from None
    return bytes(body)


def parse(model: type[B], body: bytes) -> B:
    """Raises ApiError 400 with every fault in the message and the first one's field in `param`."""
    body_limits.check(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def force(request: Request) -> Force | None:
    """Where the client wants its prompt to be prefilled. Raises ApiError 400."""
    value = request.headers.get(PREFILL_HEADER)
    match value:
        case None | "local" | "remote":
            return value
        case _:
            raise ApiError(
                400,
                f"{PREFILL_HEADER} is {value!r}; it must be 'local' or 'remote'",
                param=PREFILL_HEADER,
                code="invalid_request",
            )


def wants_trace(request: Request) -> bool:
    """Whether the answer shall say what happened to the request. Raises ApiError 400."""
    value = request.headers.get(TRACE_HEADER, "0")
    if value not in ("0", "1"):
        raise ApiError(
            400, f"{TRACE_HEADER} is {value!r}; it must be '0' or '1'", param=TRACE_HEADER, code="invalid_request"
        )
    return value == "1"


def priority(request: Request) -> Priority | None:
    """The class that the client asks for. Raises ApiError 400."""
    value = request.headers.get(PRIORITY_HEADER)
    match value:
        case None | "interactive" | "batch":
            return value
        case _:
            raise ApiError(
                400,
                f"{PRIORITY_HEADER} is {value!r}; it must be 'interactive' or 'batch'",
                param=PRIORITY_HEADER,
                code="invalid_request",
            )


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, f"the body is longer than {limit_bytes} bytes", code="request_too_large")


def _refusal(error: ValidationError) -> ApiError:
    if (count := error.error_count()) > MAX_LISTED:
        message = f"the body has {count} unknown parameters or values that are not valid"
        return ApiError(400, message, code="invalid_request")
    faults = error.errors(include_url=False, include_input=False)
    first = faults[0]
    message = "; ".join(_sentence(fault) for fault in faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        message += f"; and {len(faults) - MAX_FAULTS} more"
    code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_request"
    return ApiError(400, message, param=_field(first["loc"]) or None, code=code)


def _sentence(fault: Any) -> str:
    field = _field(fault["loc"])
    match fault["type"]:
        case "json_invalid":
            return f"the body is not valid JSON: {fault['ctx']['error']}"
        case "extra_forbidden":
            return f"{field} is not a parameter that this server knows; remove it"
        case "missing":
            return f"{field} is required"
        case "value_error":
            text = str(fault["ctx"]["error"])
        case _:
            text = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{field}: {text}" if field else text


def _field(location: Sequence[str | int]) -> str:
    """`("messages", 0, "content")` → `messages[0].content`; tags of unions are no part of it."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not part.startswith("<"):
            name += f".{part}" if name else part
    return name
