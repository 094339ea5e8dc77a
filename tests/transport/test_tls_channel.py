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
    poll.register(channel, select.POLLIN | (select.POLLOUT if wants_send else 0))
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


@pytest.mark.parametrize("dialled", [False, True])
def test_what_is_left_behind_full_views_is_pending(tmp_path: Path, dialled: bool) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as ends:
        receiver, sender = ends[dialled], ends[not dialled]
        assert receiver.receive_into([memoryview(bytearray(1))]) is None
        pending = [receiver.pending]
        assert sender.send([memoryview(bytes(20_000))]) == 20_000
        assert receiver.receive_into([memoryview(bytearray(100))]) == 100
        pending.append(receiver.pending)
        assert receiver.receive_into([memoryview(bytearray(30_000))]) == 19_900
        assert receiver.receive_into([memoryview(bytearray(1))]) is None
        assert [*pending, receiver.pending] == [False, True, False]


def test_what_a_full_socket_left_is_not_sent_twice(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as (server, client):
        data = random.Random(3).randbytes(BIG)
        sent = server.send([memoryview(data)])
        assert sent < BIG
        assert server.send([memoryview(data)[sent:]]) == 0
        assert exchange(client, b"", [1 << 20], sent) == data[:sent]
        assert server.send([memoryview(data)[sent : sent + (1 << 20)]]) > 0
        assert exchange(client, b"", [100], 1000) == data[sent : sent + 1000]


@pytest.mark.parametrize("dialled", [False, True])
def test_a_connection_that_another_thread_shuts_down_sends_nothing_in_the_clear(tmp_path: Path, dialled: bool) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as ends:
        victim, other = ends[dialled], ends[not dialled]
        victim.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OSError, match=r"EOF|pipe"):
            victim.send([memoryview(b"secret")])
        assert other.sock.recv(100) == b""
        assert victim.receive_into([memoryview(bytearray(9))]) == 0


def test_an_end_inside_a_record_is_an_end_behind_what_was_authentic(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as (server, client):
        assert client.send([memoryview(b"whole")]) == 5
        # The head of a record of 100 bytes, and one of them.
        client.sock.sendall(bytes([23, 3, 3, 0, 100, 0]))
        client.sock.shutdown(socket.SHUT_WR)
        buffer = memoryview(bytearray(9))
        assert server.receive_into([buffer]) == 5
        assert bytes(buffer[:5]) == b"whole"
        assert server.receive_into([buffer]) == 0


def test_whoever_makes_openssl_answer_and_does_not_read_is_lost(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    with connected(one.credentials, one.credentials) as (server, _):
        # Python cannot ask for new keys; this is as much as OpenSSL would have to say about very many such messages.
        server._outgoing.write(bytes(BIG))  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError, match="does not read the answers"):
            server.receive_into([memoryview(bytearray(9))])


@pytest.mark.parametrize("server_sends", [False, True])
def test_a_corrupt_byte_ends_the_connection_behind_what_was_authentic(tmp_path: Path, server_sends: bool) -> None:
    one = party(tmp_path, AUTHORITY)
    spoil = False

    def change(data: bytes) -> bytes:
        return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:] if spoil else data

    with through(change) as (near, far), ThreadPoolExecutor() as pool:
        beginning = pool.submit(secured, near, one.credentials, server_side=server_sends)
        receiver, sender = secured(far, one.credentials, server_side=not server_sends), beginning.result()
        assert isinstance(sender, Channel)
        assert isinstance(receiver, Channel)
        sender.send([memoryview(b"good")])
        wait(receiver, wants_send=False)
        buffer = memoryview(bytearray(100))
        assert receiver.receive_into([buffer]) == 4
        spoil = True
        sender.send([memoryview(b"evil")])
        wait(receiver, wants_send=False)
        with pytest.raises(OSError, match=r"(?i)bad record mac"):
            receiver.receive_into([buffer[4:]])
        assert bytes(buffer[:8]) == b"good" + bytes(4)
        receiver.close()
        # The alert says so to the sender.
        wait(sender, wants_send=False)
        with pytest.raises(OSError, match=r"(?i)alert bad record mac"):
            sender.receive_into([memoryview(bytearray(9))])
        sender.close()
