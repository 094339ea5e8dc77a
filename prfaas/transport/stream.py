"""One of a peer's connections: a thread that makes it, and makes it again as long as the peer wants it."""

import contextlib
import logging
import os
import select
import socket
import threading
from typing import Protocol

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError, PrfaasError
from prfaas.transport.channel import Channel
from prfaas.transport.connect import choose_congestion_control, connect, fail_when_stalled, keep_little_unsent, wake
from prfaas.transport.delivery import Lane
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.secure import secure
from prfaas.transport.send_conversation import Conversation, StalledError
from prfaas.transport.send_greeting import greet
from prfaas.wire import messages

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class Owner(Protocol):
    """The peer, as its streams see it."""

    @property
    def congestion_control(self) -> str | None:
        """None: the system's."""
        ...

    def patience_s(self) -> float:
        """How long the next attempt to connect may take."""
        ...

    def welcomed(self, stream: "Stream", lane: Lane, welcome: messages.Welcome, rtt_s: float) -> None:
        """A connection is up."""
        ...

    def conversation(
        self, channel: Channel, reader: FrameReader, lane: Lane, wakeup: int, welcome: messages.Welcome
    ) -> Conversation:
        """What is said on that connection from now on."""
        ...

    def left(self, lane: Lane, stalled: PrfaasError | None) -> None:
        """Nothing reads buffers for that connection any more; it may have ended since it `stalled`."""
        ...

    def lost(self, stream: "Stream", error: PrfaasError | None) -> bool:
        """A connection is gone (None: given back), or did not come up. False: the thread must end."""
        ...


class Stream:
    """`start` it; `stop` it, which returns at once, and `join`."""

    def __init__(
        self,
        owner: Owner,
        address: str,
        proxy: str | None,
        hello: messages.Hello,
        config: TransportSection,
        credentials: Credentials | None,
        clock: Clock,
    ) -> None:
        self._owner = owner
        self._address = address
        self._proxy = proxy
        self._hello = hello
        self._config = config
        self._credentials = credentials
        self._clock = clock
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._stopping = False
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pause_s = FIRST_PAUSE_S
        self._thread = threading.Thread(target=self._run, name=f"kv-to-{address}", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError when the system has no thread for it."""
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._wakeup)
            raise

    def stop(self) -> None:
        """Ends the connection, half-sent frames with it, and every attempt to make one."""
        with self._lock:
            self._stopping = True
            if self._sock is not None:
                wake(self._sock)
        self.wake()

    def join(self) -> None:
        self._thread.join()

    def wake(self) -> None:
        """Makes the thread look for work."""
        with self._lock:
            if self._wakeup >= 0:
                os.eventfd_write(self._wakeup, 1)

    def _run(self) -> None:
        while self._owner.lost(self, self._attempt()):
            self._pause()
        with self._lock:
            os.close(self._wakeup)
            self._wakeup = -1

    def _pause(self) -> None:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        if not self._stopping:
            poller.poll(self._pause_s * 1000)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _attempt(self) -> PrfaasError | None:
        """A connection from its beginning to its end; None if it was given back."""
        try:
            channel = self._channel()
        except PrfaasError as error:
            return error
        except OSError as error:
            return PeerLostError(f"cannot connect to {self._address}: {error}")
        except Exception as error:  # the thread's edge: no transfer may wait for ever
            log.exception("connecting to %s broke", self._address)
            return PeerLostError(f"connecting to {self._address} broke: {error}")
        try:
            self._converse(channel)
        except PrfaasError as error:
            return error
        except OSError as error:
            return PeerLostError(f"the data connection to {self._address} failed: {error}")
        except Exception as error:  # the thread's edge: no transfer may wait for ever
            log.exception("sending to %s broke", self._address)
            return PeerLostError(f"sending to {self._address} broke: {error}")
        finally:
            self._let_go()
            channel.close()
        return None

    def _channel(self) -> Channel:
        patience_s = self._owner.patience_s()
        sock = connect(self._address, self._proxy, patience_s, self._prepare)
        # TLS takes the descriptor over before it is done with its handshake, which `stop` must be able to end.
        try:
            with sock.dup() as second:
                self._hold(second)
                return secure(sock, self._credentials, server_side=False, timeout_s=patience_s, peer=self._address)
        except (OSError, PrfaasError):
            # Without effect where `secure` had it already.
            sock.close()
            raise
        finally:
            self._let_go()

    def _prepare(self, sock: socket.socket) -> None:
        self._hold(sock)
        if self._config.socket_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._config.socket_buffer_bytes)
        if self._owner.congestion_control is not None:
            choose_congestion_control(sock, self._owner.congestion_control)
        fail_when_stalled(sock, self._config.stall_s)
        keep_little_unsent(sock, self._config.frame_bytes)

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            if self._stopping:
                raise PeerLostError("this instance is shutting down")
            self._sock = sock

    def _let_go(self) -> None:
        with self._lock:
            self._sock = None

    def _converse(self, channel: Channel) -> None:
        self._hold(channel.sock)
        reader = FrameReader()
        begun_s = self._clock()
        welcome = greet(channel, reader, self._hello, self._owner.patience_s(), self._clock)
        lane = Lane(channel.sock, self.wake)
        self._owner.welcomed(self, lane, welcome, self._clock() - begun_s)
        stalled: PrfaasError | None = None
        try:
            self._owner.conversation(channel, reader, lane, self._wakeup, welcome).run()
        except StalledError as error:
            stalled = error
            raise
        finally:
            if lane.frames_acknowledged:
                self._pause_s = FIRST_PAUSE_S
            wake(channel.sock)
            self._owner.left(lane, stalled)
