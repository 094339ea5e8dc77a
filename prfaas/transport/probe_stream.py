"""One connection of a probe: PROBE frames as fast as it takes them, and their acknowledgements. Measures nothing."""

import select
import threading

from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError, PrfaasError, WireError, from_code
from prfaas.transport.channel import Channel
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.frame_writer import FrameWriter
from prfaas.wire.header import NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind, payload_digest
from prfaas.wire.messages import Ack, Rejected, decode

POLL_MS = 50
SILENCE_S = 10.0
"""Without any acknowledgement for so long the receiver, or the path, is taken for dead."""


class ProbeStream:
    """Owns a greeted channel and a thread; at most `window_bytes` are in flight."""

    def __init__(
        self, channel: Channel, reader: FrameReader, payload: memoryview, window_bytes: int, clock: Clock
    ) -> None:
        assert window_bytes >= len(payload), f"a window of {window_bytes} bytes holds no frame"
        self.channel = channel
        self.error: PrfaasError | None = None
        """Why it ended early."""
        self._reader = reader
        self._writer = FrameWriter()
        self._payload = payload
        size = len(payload)
        self._header = FrameHeader(
            Kind.PROBE, NO_TRANSFER, 0, NO_OBJECT, Codec.RAW, size, size, payload_digest([payload])
        )
        self._frames_allowed = window_bytes // size
        self._frames_sent = 0
        self._frames_acknowledged = 0
        self._clock = clock
        self._heard_s = clock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link-probe", daemon=True)

    @property
    def acknowledged_bytes(self) -> int:
        return self._frames_acknowledged * len(self._payload)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Sends no further frame; the thread ends when those in flight are acknowledged."""
        self._ending.set()

    def join(self) -> None:
        """Waits for the thread, which may never have been started, and closes the channel."""
        if self._thread.ident is not None:
            self._thread.join()
        self.channel.close()

    def _run(self) -> None:
        try:
            self._exchange()
        except PrfaasError as error:
            self.error = error
        except OSError as error:
            self.error = PeerLostError(f"the connection to {self.channel.peer} failed: {error}")

    def _exchange(self) -> None:
        poller = select.poll()
        poller.register(self.channel.fileno(), select.POLLIN)
        while not self._done():
            for header, payload in self._reader.read(self.channel):
                self._take(header, payload)
            self._send()
            blocked = self._writer.busy
            poller.modify(self.channel.fileno(), select.POLLIN | (select.POLLOUT if blocked else 0))
            if not self.channel.pending:
                poller.poll(POLL_MS)
            if self._clock() - self._heard_s > SILENCE_S:
                raise PeerLostError(f"{self.channel.peer} acknowledged nothing for {SILENCE_S:g} s")

    def _done(self) -> bool:
        return self._ending.is_set() and not self._writer.busy and self._frames_acknowledged == self._frames_sent

    def _send(self) -> None:
        """As much as window and socket take."""
        while True:
            if not self._writer.busy:
                if self._ending.is_set() or self._frames_sent - self._frames_acknowledged >= self._frames_allowed:
                    return
                self._writer.start(self._header, [self._payload])
                self._frames_sent += 1
            self._writer.send(self.channel)
            if self._writer.busy:
                return

    def _take(self, header: FrameHeader, payload: bytes) -> None:
        self._heard_s = self._clock()
        if header.kind is Kind.REJECTED:
            rejected = decode(payload, Rejected)
            raise from_code(rejected.code, rejected.message)
        if header.kind is not Kind.ACK:
            raise WireError(f"{self.channel.peer} answers PROBE with {header.kind.name}")
        frames = decode(payload, Ack).frames
        if not self._frames_acknowledged <= frames <= self._frames_sent:
            raise WireError(f"{self.channel.peer} acknowledges {frames} frames of {self._frames_sent} sent")
        self._frames_acknowledged = frames
