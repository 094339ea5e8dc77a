"""Bytes through TLS: exact whatever the sizes, never in the clear, and not one of a corrupt record."""

import random
import select
import socket
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prfaas.transport.channel import Channel
from tests.control.issued import new_authority, party
from tests.transport.tls_rig import connected, secured, through

AUTHORITY = new_authority()
BUFFER_BYTES = 4096
BIG = 6 << 20


def wait(channel: Channel, *, wants_send: bool) -> None:
    poll = select.poll()
    poll.register(channel, select.POLLIN | (select.POLLOUT if wants_send and not channel.blocked_on_read else 0))
    assert poll.poll(10_000), "nothing moves"


def cut(data: bytes | memoryview, sizes: list[int]) -> list[memoryview]:
    """`data` in pieces of these sizes, over and over."""
    views: list[memoryview] = []
    at = 0
    while at < len(data):
        size = sizes[len(views) % len(sizes)]
        views.append(memoryview(data)[at : at + size])
        at += size
    return views


def after(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of `views`."""
    left = []
    for view in views:
        left.append(view[count:])
        count = max(0, count - len(view))
    return [view for view in left if view]


def exchange(channel: Channel, data: bytes, sizes: list[int], expected: int) -> bytes:
    """Sends `data` in pieces of these sizes while it receives `expected` bytes in pieces of others."""
    to_send, received, have = cut(data, sizes), bytearray(expected), 0
    room = memoryview(received)
    while to_send or have < expected:
        sent = channel.send(to_send[:7]) if to_send else 0
        to_send = after(to_send[:7], sent) + to_send[7:]
        got = channel.receive_into(cut(room[have:][:200_000], sizes[::-1])) if have < expected else None
        assert got != 0, "the end came early"
        have += got or 0
        if not sent and not got and not channel.pending:
            wait(channel, wants_send=bool(to_send))
    return bytes(received)


def both_ways(server: Channel, client: Channel, one: bytes, two: bytes, sizes: list[int]) -> tuple[bytes, bytes]:
    """What the server and the client received."""
    for channel in (server, client):
        channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    with ThreadPoolExecutor() as pool:
        serving = pool.submit(exchange, server, one, sizes, len(two))
        dialling = pool.submit(exchange, client, two, sizes, len(one))
        return serving.result(), dialling.result()


@pytest.mark.parametrize("sizes", [[128, 1 << 20], [1, 16384, 16385, 5], [100_000, 3]])
def test_much_in_both_directions_at_once_through_tiny_buffers(tmp_path: Path, sizes: list[int]) -> None:
    one, two = party(tmp_path, AUTHORITY), party(tmp_path, AUTHORITY)
    data = random.Random(1).randbytes(BIG), random.Random(2).randbytes(BIG // 2)
    with connected(one.credentials, two.credentials) as (server, client):
        assert both_ways(server, client, *data, sizes) == (data[1], data[0])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.sampled_from([1, 2, 64, 4095, 16383, 16384, 16385, 40_000]), min_size=1, max_size=5),
    lengths=st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)),
)
def test_any_sizes(tmp_path: Path, sizes: list[int], lengths: tuple[int, int]) -> None:
    one = party(tmp_path, AUTHORITY)
    sizes = [max(size, 50) if max(sizes) < 50 else size for size in sizes]
    data = tuple(random.Random(length).randbytes(length) for length in lengths)
    with connected(one.credentials, one.credentials) as (server, client):
        assert both_ways(server, client, data[0], data[1], sizes) == (data[1], data[0])


def test_views_of_other_items_than_bytes(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    halves, received = array("H", range(30_000)), array("d", bytes(60_000))
    with connected(one.credentials, one.credentials) as (server, client):
        assert client.send([memoryview(halves)]) == 60_000
        assert server.receive_into([memoryview(received)]) == 60_000
    assert received.tobytes() == halves.tobytes()


def test_a_connection_that_another_thread_shuts_down_sends_nothing_in_the_clear(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as (server, client):
        client.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OSError, match=r"EOF|pipe"):
            client.send([memoryview(b"secret")])
        assert server.sock.recv(100) == b""
        assert client.receive_into([memoryview(bytearray(9))]) == 0


def test_a_corrupt_byte_ends_the_connection_behind_what_was_authentic(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    spoil = False

    def change(data: bytes) -> bytes:
        return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:] if spoil else data

    with through(change) as (near, far), ThreadPoolExecutor() as pool:
        serving = pool.submit(secured, near, one.credentials, server_side=True)
        client, server = secured(far, one.credentials, server_side=False), serving.result()
        assert isinstance(server, Channel)
        assert isinstance(client, Channel)
        server.send([memoryview(b"good")])
        wait(client, wants_send=False)
        buffer = memoryview(bytearray(100))
        assert client.receive_into([buffer]) == 4
        spoil = True
        server.send([memoryview(b"evil")])
        wait(client, wants_send=False)
        with pytest.raises(OSError, match=r"(?i)bad record mac"):
            client.receive_into([buffer[4:]])
        assert bytes(buffer[:8]) == b"good" + bytes(4)
        client.close()
        server.close()
