"""Both ends of a peer in processes of their own, and the rounds that they are told to do."""

import contextlib
import multiprocessing
from multiprocessing.connection import Connection

import msgspec

from benchmarks.data_plane import ends
from benchmarks.data_plane.ends import DIGEST, READY, STOP
from benchmarks.data_plane.rounds import Round, Sent
from benchmarks.data_plane.setup import Setup
from benchmarks.data_plane.tun_link import TunLink, TunProfile

SPAWN = multiprocessing.get_context("spawn")
_END_S = 10.0


class Pair:
    """Raises EOFError when a process ended by itself, with its reason on stderr."""

    def __init__(self, setup: Setup, secrets: str, link: TunProfile | None = None) -> None:
        """`secrets`: folder with the certificates of a fleet; `link`: of the network "wan"."""
        self._setup = setup
        self._checked = False
        self._link: TunLink | None = None
        self._sender, sender_line = SPAWN.Pipe()
        sender = SPAWN.Process(target=ends.send, args=(sender_line, setup, secrets), daemon=True)
        sender.start()
        sender_line.close()
        self._processes = [sender]
        try:
            if link is None:
                assert self._sender.recv_bytes() == READY
            self._receiver, receiver_line = SPAWN.Pipe()
            receiver = SPAWN.Process(target=ends.receive, args=(receiver_line, setup, secrets, sender.pid), daemon=True)
            receiver.start()
            receiver_line.close()
            self._processes.append(receiver)
            if link is None:
                assert self._receiver.recv_bytes() == READY
            else:
                self._link = TunLink(link)
                self._link.join((self._sender, self._receiver))
            self._sender.send_bytes(self._receiver.recv_bytes())
            assert self._sender.recv_bytes() == READY
        except BaseException:
            self._kill()
            raise

    def round(self, prompts: int) -> Round:
        """Prompts back to back. After the first round the receiver's memory must be the sender's."""
        order = str(prompts).encode()
        self._receiver.send_bytes(order)
        assert self._receiver.recv_bytes() == READY
        self._sender.send_bytes(order)
        sent = msgspec.msgpack.decode(self._sender.recv_bytes(), type=Sent)
        self._receiver.send_bytes(READY)
        spent_s = msgspec.msgpack.decode(self._receiver.recv_bytes(), type=float)
        if not self._checked:
            assert _digest(self._sender) == _digest(self._receiver), "the receiver's memory is not the sender's"
            self._checked = True
        return Round(prompts * self._setup.prompt_bytes, sent, spent_s)

    def close(self) -> None:
        for line, process in zip((self._sender, self._receiver), self._processes, strict=True):
            with contextlib.suppress(OSError):
                line.send_bytes(STOP)
            process.join(_END_S)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        if self._link is not None:
            self._link.close()


def _digest(line: Connection) -> int | None:
    line.send_bytes(DIGEST)
    return msgspec.msgpack.decode(line.recv_bytes(), type=int | None)
