"""The names of a request: the client's own comes back if it is fit for a header, and ours is in the answer."""

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.client_request_id import MAX_CHARS, client_request_id
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_bad_requests import CHAT, TEXT

PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]


@given(st.text(PRINTABLE, min_size=1, max_size=MAX_CHARS))
def test_whatever_is_printable_is_taken(value: str) -> None:
    assert client_request_id([(b"host", b"x"), (b"x-request-id", value.encode())]) == value


@given(st.binary())
def test_whatever_is_taken_is_fit_for_a_header(value: bytes) -> None:
    taken = client_request_id([(b"x-request-id", value)])
    assert taken is None or (0 < len(taken) <= MAX_CHARS and set(taken) <= set(PRINTABLE))


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"a b", b"a\r\nx-evil: 1", b"a\nb", b"a\0", b"\x7f", "ä".encode(), b"x" * (MAX_CHARS + 1), b"a\t"],
)
def test_what_is_not_fit_is_not_taken(value: bytes) -> None:
    assert client_request_id([(b"x-request-id", value)]) is None


def test_of_two_neither_is_taken() -> None:
    assert client_request_id([(b"x-request-id", b"a"), (b"x-request-id", b"b")]) is None


@pytest.mark.parametrize(
    ("path", "body", "status"), [("/v1/chat/completions", CHAT, 200), ("/v1/completions", TEXT | {"n": 0}, 400)]
)
async def test_the_clients_own_comes_back(
    router: RunningRouter, path: str, body: dict[str, object], status: int
) -> None:
    fake = await router.add()
    response = await router.http.post(path, json=body, headers={"X-Request-Id": "Root=1-67891233;a/b"})
    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["Root=1-67891233;a/b"]
    if status == 200:
        assert response.json()["id"] == fake.calls[-1].request_id != "Root=1-67891233;a/b"


async def test_without_one_the_header_has_ours(router: RunningRouter) -> None:
    await router.add()
    response = await router.http.post("/v1/completions", json=TEXT, headers={"x-request-id": "two words"})
    assert response.headers["x-request-id"] == response.json()["id"]


@pytest.mark.parametrize(
    "header",
    [
        b"x-request-id: a\r\n x-evil: 1",  # a line that goes on, as HTTP once allowed
        b"x-request-id: a\nx-evil: 1",
        b"x-request-id: a\rx-evil: 1",
        b"x-request-id: a\0x-evil: 1",
        b"x-request-id: a\x1bx-evil: 1",
        b"x-request-id: " + b"x" * 8000 + b"x-evil",
    ],
)
async def test_no_header_is_smuggled_into_the_answer(router: RunningRouter, header: bytes) -> None:
    reader, writer = await asyncio.open_connection(*router.server.http_address.split(":"))
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + header + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] in (b"200", b"400", b"431")
    assert b"x-evil" not in answer
    assert not set(answer.decode("ascii")) - set(string.printable)
