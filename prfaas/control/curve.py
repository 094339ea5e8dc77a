"""CurveZMQ for the sockets of KV events: key pairs, and a gate that lets in only clients whose key it was told.

Keys are told over the control plane, which has authenticated whoever tells them. Knows no certificates and no events.
"""

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils import z85

from prfaas.core.errors import WireError

ZAP_ADDRESS = "inproc://zeromq.zap.01"
"""Where libzmq asks, for all sockets of a context (RFC 27)."""
ZAP_FRAMES = 7
ACCEPTED, NOT_YET = b"200", b"300"
"""A client that is refused for good (400) would never try again, and its key may be about to be told."""
MOST_CLIENTS = 1024
"""Keys that are remembered; of more, those told last."""


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A process's pair, Z85. It lives as long as the process."""

    public: str
    secret: str

    @classmethod
    def new(cls) -> "CurveKeys":
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    def serve(self, sock: "zmq.Socket[Any]") -> None:
        """Makes `sock` a server, before it is bound."""
        sock.curve_secretkey = self.secret.encode()
        sock.curve_server = True

    def connect(self, sock: "zmq.Socket[Any]", server_key: str) -> None:
        """Makes `sock` a client of the one that has `server_key`, before it is connected. Raises WireError."""
        try:
            sock.curve_serverkey = server_key.encode()
        except zmq.ZMQError as error:
            raise WireError(f"{server_key!r} is no CURVE key; has the instance the same security.mode?") from error
        sock.curve_publickey = self.public.encode()
        sock.curve_secretkey = self.secret.encode()


class CurveGate:
    """Answers libzmq's questions about clients of one context; without it any client with a key of its own gets in."""

    def __init__(self, context: "zmq.Context[Any]") -> None:
        """To be made before the sockets that it guards are bound."""
        self._asked = zmq.asyncio.Socket(context, zmq.REP)
        self._asked.bind(ZAP_ADDRESS)
        self._allowed: OrderedDict[str, None] = OrderedDict()
        self._answering: asyncio.Task[None] | None = None
        self.num_refused = 0

    def allow(self, key: str) -> None:
        """`key` (Z85) is one of a client that may connect from now on."""
        self._allowed[key] = None
        self._allowed.move_to_end(key)
        while len(self._allowed) > MOST_CLIENTS:
            self._allowed.popitem(last=False)

    def start(self) -> None:
        self._answering = asyncio.create_task(self._answer_all())

    async def close(self) -> None:
        if self._answering:
            self._answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._answering
        self._asked.close(linger=0)

    async def _answer_all(self) -> None:
        while True:
            question = await self._asked.recv_multipart()
            version, request = question[0], question[1]
            is_curve = len(question) == ZAP_FRAMES and question[5] == b"CURVE"
            allowed = is_curve and z85.encode(question[6]).decode() in self._allowed
            self.num_refused += not allowed
            status = (ACCEPTED, b"OK") if allowed else (NOT_YET, b"unknown key")
            await self._asked.send_multipart([version, request, *status, b"", b""])
