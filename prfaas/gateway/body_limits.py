"""How much a body may hold before anything is built from it: a large one keeps the event loop from all others.

Knows no fields but those that may be long.
"""

import msgspec
from msgspec import Raw

from prfaas.core.errors import RequestError
from prfaas.gateway.errors import ApiError

UNCHECKED_BYTES = 64 << 10
"""Whatever so few bytes hold is parsed, and refused, within milliseconds."""
MAX_OTHER_BYTES = 1 << 20
MAX_STRINGS = 1 << 17
MAX_COMMAS = 1 << 21
"""More than fit into any context, as token ids or in a text."""


class _Outline(msgspec.Struct):
    messages: Raw = Raw()
    prompt: Raw = Raw()
    input: Raw = Raw()
    instructions: Raw = Raw()


_outline = msgspec.json.Decoder(_Outline)


def check(body: bytes) -> None:
    """Raises ApiError 400 for a body that is large but not in its texts or token ids."""
    if len(body) <= UNCHECKED_BYTES:
        return
    try:
        outline = _outline.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(f"the body is not valid JSON: {error}") from None
    long = (outline.messages, outline.prompt, outline.input, outline.instructions)
    other = len(body) - sum(len(bytes(field)) for field in long)
    if other > MAX_OTHER_BYTES:
        message = (
            f"all but messages, prompt, input and instructions has {other} bytes; at most {MAX_OTHER_BYTES} are read"
        )
        raise _refusal(message)
    # Keys and values alike. An escaped quote is no end, and one behind an escaped backslash only makes the count low.
    if (strings := (body.count(b'"') - body.count(b'\\"')) // 2) > MAX_STRINGS:
        raise _refusal(f"the body has about {strings} keys and strings; at most {MAX_STRINGS} are read")
    if (commas := body.count(b",")) > MAX_COMMAS:
        raise _refusal(f"the body has {commas} commas, lists of so many values; at most {MAX_COMMAS} are read")


def _refusal(message: str) -> ApiError:
    return ApiError(400, message, code=RequestError.code)
