"""One direction of the long path, between two sockets that keep packets apart as TUN devices do."""

import os
import socket
from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.data_plane.tun_link import Direction, TunProfile

PACKET = bytes(1000)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, ...]]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    found = tuple(end for pair in pairs for end in pair)
    for end in found:
        end.setblocking(False)
    yield found
    for end in found:
        end.close()


def direction(profile: TunProfile, sockets: tuple[socket.socket, ...]) -> Direction:
    return Direction(profile, sockets[1].fileno(), sockets[2].fileno(), Random(0))


def arrived(end: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(os.read(end.fileno(), 9000))
        except BlockingIOError:
            return packets


def test_packets_arrive_in_order_and_not_before_their_time(sockets: tuple[socket.socket, ...]) -> None:
    link = direction(TunProfile(gbit_s=0.008, rtt_ms=20, loss=0.0), sockets)  # a packet takes 1 ms
    sent = [bytes([i]) + PACKET for i in range(3)]
    for packet in sent:
        sockets[0].send(packet)
    link.take()
    assert 0.009 < link.deliver() <= 0.012
    assert arrived(sockets[3]) == []
    while link.deliver() < 0.1:
        pass
    assert arrived(sockets[3]) == sent


def test_lost_packets_do_not_arrive(sockets: tuple[socket.socket, ...]) -> None:
    link = direction(TunProfile(gbit_s=1, rtt_ms=0, loss=1.0), sockets)
    sockets[0].send(PACKET)
    link.take()
    assert link.deliver() > 0.1
    assert arrived(sockets[3]) == []


def test_a_full_queue_drops_the_packets_behind_it(sockets: tuple[socket.socket, ...]) -> None:
    link = direction(TunProfile(gbit_s=0.00001, rtt_ms=0, loss=0.0, buffer_s=0.02), sockets)  # 0.8 s a packet
    for _ in range(5):
        sockets[0].send(PACKET)
    link.take()
    assert link.queued == 1
