"""One sender's connection and the thread that serves it: waits, receives, answers, and lets go of everything."""

import contextlib
import socket
from collections import deque

from prfaas.core.errors import PeerLostError, PrfaasError
from prfaas.transport.answers import Answers
from prfaas.transport.channel import Channel
from prfaas.transport.connect import fail_when_stalled, wake
from prfaas.transport.conversation import Conversation
from prfaas.transport.frame_stream import FrameStream
from prfaas.transport.framing import message_frame
from prfaas.transport.greeting import Greeting, check_version, welcome_frame
from prfaas.transport.receipts import ACK_AFTER_S
from prfaas.transport.secure import secure
from prfaas.transport.sessions import SenderSession
from prfaas.transport.surroundings import Surroundings
from prfaas.transport.tombstones import TransferKey
from prfaas.transport.waiting import Bell, Waiting
from prfaas.wire.header import Kind
from prfaas.wire.messages import MAX_MESSAGE_BYTES, MAX_SMALL_MESSAGE_BYTES, Hello, Rejected, encode

MAX_UNREAD_ANSWERS_BYTES = 64 << 10
"""A sender that lets more of them lie is not listened to until it has read some."""


class Connection:
    """Served by one thread, `run`; until its sender has opened a transfer it holds 64 KiB and nothing more."""

    def __init__(self, sock: socket.socket, peer: str, surroundings: Surroundings) -> None:
        self.peer = peer
        self.heard_s = self._begun_s = surroundings.clock()
        self.hung_up = False
        self._sock = sock
        self._surroundings = surroundings
        self._config = surroundings.config
        self._answers = Answers(surroundings.clock, surroundings.config.stall_s)
        self._small = memoryview(bytearray(MAX_SMALL_MESSAGE_BYTES))
        self._posted: deque[tuple[TransferKey, bytes]] = deque()
        self._bell: Bell | None = None
        self._frames: FrameStream | None = None
        self._session: SenderSession | None = None
        self._conversation: Conversation | None = None

    @property
    def busy(self) -> bool:
        """Its sender brings something that somebody waits for."""
        return self._session is not None and self._session.busy

    def post(self, key: TransferKey, frame: bytes) -> None:
        """Sends `frame`, which says how a transfer ended, soon; called on any thread, while the session has us."""
        assert self._bell is not None
        self._posted.append((key, frame))
        self._bell.ring()

    def hang_up(self) -> None:
        """Ends the connection soon; called on any thread."""
        self.hung_up = True
        wake(self._sock)

    def run(self) -> None:
        """Serves the connection to its end and closes it. Raises PrfaasError or OSError to say why it ended."""
        with contextlib.ExitStack() as held:
            held.callback(self._sock.close)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fail_when_stalled(self._sock, self._config.stall_s)
            channel = self._secure()
            held.callback(channel.close)
            self._sock = channel.sock
            bell = self._bell = Bell()
            held.callback(bell.close)
            held.callback(self._let_go)
            self._serve(channel, bell)

    def _secure(self) -> Channel:
        credentials, timeout_s = self._surroundings.credentials, self._config.connect_timeout_s
        sock = self._sock
        try:
            # TLS takes the descriptor over before it is done with its handshake, which `hang_up` must be able to end.
            with sock.dup() as self._sock:
                return secure(sock, credentials, server_side=True, timeout_s=timeout_s, peer=self.peer)
        except PrfaasError as error:
            self._surroundings.metrics.refused.labels(error.code).inc()
            raise

    def _serve(self, channel: Channel, bell: Bell) -> None:
        greeting = Greeting(self._small, self._greeted)
        largest = max(self._config.frame_bytes, MAX_MESSAGE_BYTES)
        frames = self._frames = FrameStream(channel, greeting, self._small, largest)
        waiting = Waiting(channel, bell)
        heard = False
        try:
            while not frames.ended and not self.hung_up:
                if self._answers.num_bytes:
                    self._answers.flush(channel)
                deaf = self._answers.num_bytes > MAX_UNREAD_ANSWERS_BYTES
                if not deaf and frames.receive():
                    heard = True
                    continue
                if heard:
                    self.heard_s = self._surroundings.clock()
                    heard = False
                if not frames.ended:
                    self._pause(channel, waiting, frames, deaf=deaf)
        finally:
            # What ends the connection may be worth telling, such as why the sender is not welcome.
            with contextlib.suppress(OSError, PeerLostError):
                self._answers.flush(channel)

    def _pause(self, channel: Channel, waiting: Waiting, frames: FrameStream, *, deaf: bool) -> None:
        """Nothing is there to receive: waits for more, and soon tells what has been received."""
        receipts = None
        if self._conversation is not None:
            receipts = self._conversation.receipts
            self._conversation.take_posted()
        self._answers.flush(channel)
        if channel.pending and not deaf:
            return
        write = self._answers.num_bytes > 0
        patience_s = self._patience_s(frames)
        if receipts is None or not receipts.due:
            waiting.wait(read=not deaf, write=write, timeout_s=patience_s)
        elif not waiting.wait(read=not deaf, write=write, timeout_s=min(ACK_AFTER_S, patience_s or ACK_AFTER_S)):
            receipts.tell()
            self._answers.flush(channel)

    def _patience_s(self, frames: FrameStream) -> float | None:
        """How long to wait, None for ever. Raises PeerLostError when the time is over."""
        if self._session is None:
            until_s, fault = self._begun_s + self._config.connect_timeout_s, "said no HELLO"
        elif frames.inside_frame:
            until_s, fault = self.heard_s + self._config.stall_s, "fell silent inside a frame"
        else:
            return self._config.stall_s if self._answers.num_bytes else None
        left_s = until_s - self._surroundings.clock()
        if left_s <= 0:
            raise PeerLostError(f"{self.peer} {fault}")
        return left_s

    def _greeted(self, hello: Hello) -> None:
        surroundings = self._surroundings
        self.peer = f"{hello.instance_id} of {hello.cluster}"
        try:
            check_version(hello)
            session = surroundings.sessions.join(hello, self)
        except PrfaasError as error:
            surroundings.metrics.refused.labels(error.code).inc()
            self._answers.add(message_frame(Kind.REJECTED, encode(Rejected(error.code, str(error)))))
            raise
        self._session = session
        self._conversation = Conversation(session, self._small, self._answers, self._posted, surroundings)
        assert self._frames is not None
        self._frames.reader = self._conversation
        self._answers.add(welcome_frame(surroundings.host, session, self._config.frame_bytes, self._config.max_streams))

    def _let_go(self) -> None:
        if self._session is None or self._conversation is None:
            return
        self._conversation.close()
        self._session.leave(self)
        # From here on nobody posts to us.
        for key, frame in (*self._answers.unsent_outcomes(), *self._posted):
            self._session.post(key, frame)
