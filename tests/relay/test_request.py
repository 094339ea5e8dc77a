"""The sans-IO reader of the first request: limits, malformed bytes, and what comes behind a CONNECT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.relay.handshake import is_loopback
from prfaas.relay.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, RefusedError, RequestReader, parse_authority

CONNECT = b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n"


@given(st.binary(max_size=200), st.lists(st.integers(1, 30)))
def test_bytes_behind_a_connect_are_kept_however_they_are_cut(early: bytes, cuts: list[int]) -> None:
    reader = RequestReader()
    data = CONNECT
    for cut in cuts:
        if cut < len(data):
            assert not reader.receive(data[:cut])
            data = data[cut:]
    assert reader.receive(data + early)
    answer, trailing = reader.establish()
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert trailing == early


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"CONNECT\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n"],
)
def test_malformed_requests_are_400(garbage: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        RequestReader().receive(garbage)
    assert refused.value.status == 400


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"], ids=["endless", "whole in one read"])
def test_a_long_header_is_431(ending: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        RequestReader().receive(b"GET /link HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MAX_HEADER_BYTES + ending)
    assert refused.value.status == 431


def test_a_long_body_is_413() -> None:
    size = MAX_BODY_BYTES + 1
    head = b"PUT /link HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with pytest.raises(RefusedError) as refused:
        RequestReader().receive(head + bytes(size))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("LocalHost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_targets(target: str, expected: tuple[str, int]) -> None:
    assert parse_authority(target) == expected


@pytest.mark.parametrize("target", ["localhost", "localhost:0", "localhost:65536", ":80", "::1:80", "u@h:1", "h:1/x"])
def test_bad_targets_are_400(target: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_authority(target)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("127.0.0.9", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("10.0.0.1", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (None, False),
    ],
)
def test_only_this_machine_is_loopback(peer: object, expected: bool) -> None:
    assert is_loopback(peer) is expected
