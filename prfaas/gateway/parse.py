"""From the bytes of a body, and headers, to validated values; every fault becomes an ApiError that names its field.

Reads nothing from the network.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jiter
from pydantic import ValidationError
from starlette.requests import Request

from prfaas.config.sections import Priority
from prfaas.core.errors import RequestError
from prfaas.gateway import body_limits
from prfaas.gateway.body import Body
from prfaas.gateway.bookkeeping_fields import BookkeepingFields
from prfaas.gateway.errors import ApiError
from prfaas.policy.view import Force

B = TypeVar("B", bound=Body)

TRACE_HEADER = "x-prfaas-trace"
PREFILL_HEADER = "x-prfaas-prefill"
PRIORITY_HEADER = "x-prfaas-priority"
MAX_FAULTS = 5
MAX_LISTED = 1000
"""Of more faults only the number is told: the report of a million takes seconds, in which no other answer moves."""


def parse(model: type[B], body: bytes) -> B:
    """Raises ApiError 400 with every fault in the message and the first one's field in `param`."""
    body_limits.check(body)
    try:
        values = model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    _refuse_repeated_names(body)
    return values


def force(request: Request) -> Force | None:
    """Where the client wants its prompt to be prefilled. Raises ApiError 400."""
    match value := request.headers.get(PREFILL_HEADER):
        case None | "local" | "remote":
            return value
        case _:
            raise _bad_header(PREFILL_HEADER, f"is {value!r}; it must be 'local' or 'remote'")


def priority(request: Request, body: BookkeepingFields) -> Priority | None:
    """The class that the request says it has; None: that of its key. Raises ApiError 400."""
    match value := request.headers.get(PRIORITY_HEADER):
        case "interactive" if body.service_tier == "flex":
            raise _bad_header(PRIORITY_HEADER, "is 'interactive', but service_tier \"flex\" means batch; give one")
        case "batch" | "interactive":
            return value
        case None:
            return "batch" if body.service_tier == "flex" else None
        case _:
            raise _bad_header(PRIORITY_HEADER, f"is {value!r}; it must be 'batch' or 'interactive'")


def wants_trace(request: Request) -> bool:
    """Whether the answer shall say what happened to the request. Raises ApiError 400."""
    value = request.headers.get(TRACE_HEADER, "0")
    if value not in ("0", "1"):
        raise _bad_header(TRACE_HEADER, f"is {value!r}; it must be '0' or '1'")
    return value == "1"


def _bad_header(name: str, fault: str) -> ApiError:
    return ApiError(400, f"{name} {fault}", param=name, code=RequestError.code)


def _refuse_repeated_names(body: bytes) -> None:
    """Readers of JSON disagree on which of two values counts, and one of them would be dropped."""
    try:
        jiter.from_json(body, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        message = f"the body is not valid JSON: {error}; every name may occur once in its object"
        raise ApiError(400, message, code=RequestError.code) from None


def _refusal(error: ValidationError) -> ApiError:
    if (count := error.error_count()) > MAX_LISTED:
        message = f"the body has {count} unknown parameters or values that are not valid"
        return ApiError(400, message, code=RequestError.code)
    faults = error.errors(include_url=False, include_input=False)
    first = faults[0]
    message = "; ".join(_sentence(fault) for fault in faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        message += f"; and {len(faults) - MAX_FAULTS} more"
    code = "unknown_parameter" if first["type"] == "extra_forbidden" else RequestError.code
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
