"""Which name of a request its answer carries in `x-request-id`: the client's own, if it is fit to be repeated."""

import re
from collections.abc import Iterable

REQUEST_ID_HEADER = "x-request-id"
MAX_CHARS = 128
_NAME = REQUEST_ID_HEADER.encode()
_FIT = re.compile(rb"[!-~]{1,%d}" % MAX_CHARS)


def client_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The client's id if there is exactly one, of at most 128 printable ASCII characters without spaces, else None.

    Whatever else comes, such as line breaks that would begin a header of their own, is never sent back.
    """
    values = [value for name, value in headers if name == _NAME]
    return values[0].decode() if len(values) == 1 and _FIT.fullmatch(values[0]) else None
