"""The receiver that instances run, less its socket and thread: bytes in as a channel would bring them."""

import queue
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import cast

from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.core.errors import CancelledError, PrfaasError
from prfaas.core.shape import ModelShape
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.answers import Answers
from prfaas.transport.channel import Channel
from prfaas.transport.conversation import Conversation
from prfaas.transport.frame_stream import FrameStream
from prfaas.transport.greeting import Greeting, check_version
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox, Outcome
from prfaas.transport.sessions import SenderSession, SenderSessions
from prfaas.transport.staging import StagingArena
from prfaas.transport.surroundings import Surroundings
from prfaas.transport.tombstones import TransferKey
from prfaas.wire.header import Codec, ObjectKey, payload_digest
from prfaas.wire.messages import MAX_MESSAGE_BYTES, MAX_SMALL_MESSAGE_BYTES, Hello
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.wire.small import SHAPE, TOKENS, TRANSFER

EPOCH = 1
CONFIG = TransportSection(frame_bytes=4096, staging_bytes=8192, credit_bytes=1 << 16)
METRICS = InstanceMetrics(CollectorRegistry())
LARGEST_PIECE_BYTES = 1000
"""Of what arrives at once, so that frames come in several."""


class BytesChannel:
    """What a socket would bring, then its end; what is sent vanishes."""

    def __init__(self, stream: bytes) -> None:
        self._left = memoryview(stream)

    def receive_into(self, views: Sequence[memoryview]) -> int:
        taken = 0
        for view in views:
            size = min(len(view), len(self._left), LARGEST_PIECE_BYTES - taken)
            view[:size] = self._left[:size]
            self._left = self._left[size:]
            taken += size
        return taken


class Pages:
    """One bytearray per tensor: paged layers are received into, others staged and placed."""

    def __init__(self) -> None:
        self.tensors = {
            (i, j): bytearray(layer.num_rows(j, TOKENS) * layer.row_bytes(j))
            for i, layer in enumerate(SHAPE.layers)
            for j in range(len(layer.tensors))
        }

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        assert codec is Codec.RAW
        return [self._rows(key)] if sent.layers[key.layer].paged and sent is SHAPE else None

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        assert codec is Codec.RAW
        if sent.layers[key.layer].tensors[key.tensor].dtype == SHAPE.layers[key.layer].tensors[key.tensor].dtype:
            self._rows(key)[:] = payload

    def _rows(self, key: ObjectKey) -> memoryview:
        size = SHAPE.layers[key.layer].row_bytes(key.tensor)
        return memoryview(self.tensors[key.layer, key.tensor])[key.start * size : key.end * size]


class ServedConnection:
    """One connection to a receiver that expects one transfer, whatever it turns out to be."""

    def __init__(self, expectation: Expectation) -> None:
        ticks = count()
        self._clock = lambda: float(next(ticks))
        self.arena = StagingArena(CONFIG.staging_bytes, CONFIG.frame_bytes)
        self.inbox = Inbox(self._clock)
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.pages = Pages()
        self.error: PrfaasError | None = None
        self.session: SenderSession | None = None
        self._conversation: Conversation | None = None
        self._answers = Answers(self._clock, CONFIG.stall_s)
        self._small = memoryview(bytearray(MAX_SMALL_MESSAGE_BYTES))
        self._surroundings = Surroundings(
            self.inbox,
            SenderSessions(CONFIG, self._clock),
            self.arena,
            Host("decode-0", "west", EPOCH),
            CONFIG,
            None,
            METRICS,
            self._clock,
            payload_digest,
        )
        self.inbox.expect(TRANSFER, EPOCH, ReceiveSession(expectation), self.pages, self.outcomes.put)

    heard_s = 0.0

    def post(self, key: TransferKey, frame: bytes) -> None:
        del key, frame

    def hang_up(self) -> None:
        pass

    def feed(self, stream: bytes) -> None:
        """A whole connection, from HELLO to its end; `error` is why it ended, if not by the sender."""
        greeting = Greeting(self._small, self._greeted)
        channel = cast("Channel", BytesChannel(stream))
        self._frames = FrameStream(channel, greeting, self._small, MAX_MESSAGE_BYTES)
        try:
            while not self._frames.ended:
                self._frames.receive()
                if self._conversation is not None:
                    self._conversation.receipts.tell()
        except PrfaasError as error:
            self.error = error
        if self._conversation is not None:
            self._conversation.close()
        self.inbox.close(TRANSFER, EPOCH, CancelledError("the test is over"))

    def _greeted(self, hello: Hello) -> None:
        check_version(hello)
        self.session = self._surroundings.sessions.join(hello, self)
        self._conversation = Conversation(self.session, self._small, self._answers, deque(), self._surroundings)
        self._frames.reader = self._conversation

    def check_nothing_is_held(self) -> None:
        """Staging, credit and transfers are all given back, and the transfer ended once."""
        assert self.arena.num_taken == 0
        assert self.session is None or self.session.in_progress_bytes == 0
        assert len(self.inbox) == 0
        assert self.outcomes.qsize() == 1
