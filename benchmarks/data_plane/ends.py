"""The processes of a peer's two ends: each enters its network, builds its end, and does rounds as it is told."""

import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

import msgspec

from benchmarks.data_plane import namespace, tun_link
from benchmarks.data_plane.foreign import ForeignReceiver, ForeignSender
from benchmarks.data_plane.iperf3 import Iperf3Receiver, Iperf3Sender
from benchmarks.data_plane.memory import PromptMemory
from benchmarks.data_plane.plain import PlainReceiver, PlainSender
from benchmarks.data_plane.prfaas_plane import PrfaasReceiver, PrfaasSender
from benchmarks.data_plane.rounds import Receiver, Sender
from benchmarks.data_plane.setup import Setup

STOP, DIGEST, READY = b"", b"digest", b"ready"
LOOPBACK = "127.0.0.1"
SENDER, RECEIVER = 0, 1
"""Which end of a wide-area link is whose."""


def send(line: Connection, setup: Setup, secrets: str) -> None:
    """The sending process. `secrets`: folder with the certificates of a fleet."""
    if setup.network == "own":
        namespace.enter(setup.control)
    _enter(line, setup, SENDER)
    sender = _sender(setup, line.recv_bytes().decode(), secrets)
    line.send_bytes(READY)
    while (order := line.recv_bytes()) != STOP:
        if order == DIGEST:
            line.send_bytes(msgspec.msgpack.encode(sender.digest()))
        else:
            line.send_bytes(msgspec.msgpack.encode(sender.send(int(order))))


def receive(line: Connection, setup: Setup, secrets: str, sender_pid: int) -> None:
    """The receiving process."""
    if setup.network == "own":
        namespace.join(sender_pid)
    _enter(line, setup, RECEIVER)
    receiver = _receiver(setup, secrets)
    line.send_bytes(receiver.address.encode())
    while (order := line.recv_bytes()) != STOP:
        if order == DIGEST:
            line.send_bytes(msgspec.msgpack.encode(receiver.digest()))
            continue
        receiver.expect(int(order))
        spent_s = receiver.cpu_s()
        line.send_bytes(READY)
        receiver.wait()
        assert line.recv_bytes() == READY, "the sender's word comes before anything else"
        line.send_bytes(msgspec.msgpack.encode(receiver.cpu_s() - spent_s))


def _enter(line: Connection, setup: Setup, index: int) -> None:
    """Tells the benchmark that this process is in its network; an end of a link hands its device over."""
    if setup.network == "wan":
        device = tun_link.enter_end(index)
        send_handle(line, device, os.getppid())
        os.close(device)
    else:
        line.send_bytes(READY)


def _sender(setup: Setup, address: str, secrets: str) -> Sender:
    match setup.peer:
        case "iperf3":
            return Iperf3Sender(address, setup.control, setup.streams, setup.prompt_bytes)
        case "plain":
            return PlainSender(PromptMemory(1, setup.tokens), address, setup.control)
        case "mooncake" | "nixl":
            assert setup.python is not None
            return ForeignSender(setup.python, setup.peer, setup.prompt_bytes, address)
        case _:
            return PrfaasSender(PromptMemory(1, setup.tokens), address, setup, secrets)


def _receiver(setup: Setup, secrets: str) -> Receiver:
    host = tun_link.ADDRESSES[RECEIVER] if setup.network == "wan" else LOOPBACK
    match setup.peer:
        case "iperf3":
            return Iperf3Receiver(host)
        case "plain":
            return PlainReceiver(PromptMemory(2, setup.tokens), host)
        case "mooncake" | "nixl":
            assert setup.python is not None
            return ForeignReceiver(setup.python, setup.peer, setup.prompt_bytes)
        case _:
            return PrfaasReceiver(PromptMemory(2, setup.tokens), host, setup, secrets)
