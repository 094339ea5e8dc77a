"""Two ends of a connection, a handshake between them, and what became of each."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from prfaas.control.credentials import Credentials
from prfaas.core.errors import PrfaasError
from prfaas.transport.channel import Channel
from prfaas.transport.secure import secure

HANDSHAKE_S = 10.0
Outcome = Channel | PrfaasError


def secured(
    sock: socket.socket, credentials: Credentials, *, server_side: bool, timeout_s: float = HANDSHAKE_S
) -> Outcome:
    try:
        return secure(sock, credentials, server_side=server_side, timeout_s=timeout_s, peer="the peer")
    except PrfaasError as error:
        return error


def shake_hands(server: Credentials, client: Credentials) -> tuple[Outcome, Outcome]:
    """What the server's and the client's end became."""
    near, far = socket.socketpair()
    with ThreadPoolExecutor() as pool:
        serving = pool.submit(secured, near, server, server_side=True)
        dialling = pool.submit(secured, far, client, server_side=False)
        return serving.result(), dialling.result()


@contextmanager
def connected(server: Credentials, client: Credentials) -> Iterator[tuple[Channel, Channel]]:
    """A server's and a client's channel, closed in the end."""
    outcomes = shake_hands(server, client)
    channels = [outcome for outcome in outcomes if isinstance(outcome, Channel)]
    assert len(channels) == 2, outcomes
    try:
        yield channels[0], channels[1]
    finally:
        for channel in channels:
            channel.close()


@contextmanager
def through(change: Callable[[bytes], bytes]) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a way that carries bytes as they are from the second to the first, and changed the other way."""
    near, near_end = socket.socketpair()
    far, far_end = socket.socketpair()

    def pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(change(data))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    pumps = [
        threading.Thread(target=pump, args=(near_end, far_end, change)),
        threading.Thread(target=pump, args=(far_end, near_end, bytes)),
    ]
    for thread in pumps:
        thread.start()
    try:
        yield near, far
    finally:
        for end in (near_end, far_end):
            end.shutdown(socket.SHUT_RDWR)
        for thread in pumps:
            thread.join()
        for end in (near_end, far_end):
            end.close()
