"""Small HTTP calls to processes of this machine, for threads."""

import http.client
import json
from contextlib import closing
from typing import Any

TIMEOUT_S = 10.0


def get(address: str, path: str) -> bytes:
    """A page. Raises OSError where there is nobody."""
    return _call(address, "GET", path, None)


def get_json(address: str, path: str) -> Any:
    """The same, decoded."""
    return json.loads(get(address, path))


def put_json(address: str, path: str, value: Any) -> None:
    """Changes something."""
    _call(address, "PUT", path, json.dumps(value).encode())


def _call(address: str, method: str, path: str, body: bytes | None) -> bytes:
    with closing(http.client.HTTPConnection(address, timeout=TIMEOUT_S)) as connection:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        page = answer.read()
    if answer.status >= 300:
        raise OSError(f"{method} {address}{path}: {answer.status} {page.decode(errors='replace')}")
    return page
