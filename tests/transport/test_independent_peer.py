"""Peers that know only docs/wire-format.md complete transfers with ours, through corruption and lost connections."""

import ast
import queue
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.core.shape import ModelShape
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox, Outcome, Received
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer, Payload
from prfaas.transport.server import DataServer
from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.sending import Summary
from tests.transport import independent_peer as alien
from tests.transport.independent_peer import AlienReceiver, Line, Rows
from tests.wire.small import EXPECTATION, FINGERPRINT, OPEN, PIECES, SECRET, TOKENS, content

CONFIG = TransportSection(frame_bytes=4096, min_streams=2, stall_s=5.0, connect_timeout_s=2.0)
TRANSFER = (b"t" * 16, 7)
OBJECTS: dict[Rows, bytes] = {(key.layer, key.tensor, key.start, key.end): content(key) for key in PIECES}
OPENING = {
    "secret": SECRET,
    "model_fingerprint": FINGERPRINT,
    "prompt_tokens": TOKENS,
    "held_tokens": 0,
    "kv_dtype": "float32",
}


@dataclass
class Memory:
    """A destination that takes everything through staging."""

    placed: dict[Rows, bytes] = field(default_factory=dict)

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        del key, codec, sent
        return None

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        del codec, sent
        self.placed[key.layer, key.tensor, key.start, key.end] = bytes(payload)


@dataclass
class Waiting:
    """Our receiver, and one transfer that it expects."""

    address: tuple[str, int]
    memory: Memory
    ended: "queue.SimpleQueue[Outcome]"


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    inbox = Inbox(time.monotonic)
    listener = socket.create_server(("127.0.0.1", 0))
    metrics = InstanceMetrics(CollectorRegistry())
    server = DataServer(listener, inbox, Host("decode-0", "west", 7), CONFIG, None, metrics, time.monotonic)
    found = Waiting(listener.getsockname(), Memory(), queue.SimpleQueue())
    inbox.expect(TransferId(TRANSFER[0]), 7, ReceiveSession(EXPECTATION), found.memory, found.ended.put)
    server.start()
    try:
        yield found
    finally:
        server.close()


def send(line: Line, *which: Rows) -> None:
    for rows in which:
        line.send(alien.OBJECT, OBJECTS[rows], TRANSFER, rows)


def test_a_stranger_sends_to_us(waiting: Waiting) -> None:
    session = b"0123456789abcdef"
    first, second = alien.greeted(waiting.address, session), alien.greeted(waiting.address, session)
    a, b, c, d, e = OBJECTS
    with closing(first.sock), closing(second.sock):
        first.send(alien.OPEN, OPENING, TRANSFER)
        assert first.expect(alien.ACCEPTED).message == {"received": []}
        second.send(alien.MANIFEST, alien.manifest_of(OBJECTS, OPENING), TRANSFER)
        second.send(alien.OBJECT, OBJECTS[a], TRANSFER, a, damage=1)
        resend = second.expect(alien.RESEND)
        assert (resend.rows, resend.transfer_id, resend.epoch) == (a, *TRANSFER)
        send(second, a, b)
        send(first, d)
        second.sock.close()
        # Whatever the receiver has read by now, it says; the rest goes by the connection that is left.
        first.send(alien.OPEN, OPENING, TRANSFER)
        received = first.expect(alien.ACCEPTED).message["received"]
        assert list(d) in received
        send(first, *(rows for rows in (a, b, c, e) if not alien.covered(rows, received)))
        first.expect(alien.COMMITTED)
        outcome = waiting.ended.get(timeout=10)
        assert isinstance(outcome, Received), outcome
        assert waiting.memory.placed == OBJECTS
        assert outcome.manifest.first_token_id == 42
        assert outcome.bytes_raw == outcome.bytes_wire == sum(map(len, OBJECTS.values()))
        assert outcome.bytes_again >= len(OBJECTS[a])
        first.send(alien.OPEN, OPENING, TRANSFER)
        first.expect(alien.COMMITTED)


def test_acknowledgements_count_all_frames(waiting: Waiting) -> None:
    line = alien.greeted(waiting.address, b"0123456789abcdef")
    with closing(line.sock):
        line.send(alien.OPEN, OPENING, TRANSFER)
        line.expect(alien.ACCEPTED)
        rows = next(iter(OBJECTS))
        send(line, rows, rows)
        line.send(alien.OBJECT, OBJECTS[rows], (b"u" * 16, 7), rows)
        counts, refused = [0], 0
        while counts[-1] < 3:
            frame = line.read()
            assert frame is not None
            if frame.kind == alien.ACK:
                counts.append(frame.message["frames"])
                assert frame.message["credit_bytes"] == CONFIG.credit_bytes
            else:
                assert (frame.kind, frame.message["code"]) == (alien.REJECTED, "ticket_refused")
                refused += 1
        assert counts == sorted(counts)
        assert refused == 1


def test_a_wrong_secret_harms_nobody(waiting: Waiting) -> None:
    line = alien.greeted(waiting.address, b"0123456789abcdef")
    with closing(line.sock):
        line.send(alien.OPEN, OPENING | {"secret": b"x" * 16}, TRANSFER)
        assert line.expect(alien.REJECTED).message["code"] == "ticket_refused"
        line.send(alien.OPEN, OPENING, TRANSFER)
        line.expect(alien.ACCEPTED)


@dataclass(frozen=True)
class Bytes:
    """A source whose object lies in memory."""

    data: bytes

    def payload(self, staging: memoryview) -> Payload:
        del staging
        return Payload(Codec.RAW, len(self.data), [memoryview(self.data)])


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize(("num_resends", "hang_up_at"), [(0, 0), (1, 0), (2, 0), (1, 2), (1, 5), (0, 5)])
def test_we_send_to_a_stranger(streams: int, num_resends: int, hang_up_at: int) -> None:
    """It asks for an object again, unacknowledged, and ends a connection instead of taking an object."""
    receiver = AlienReceiver(num_resends, hang_up_at)
    ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
    metrics = InstanceMetrics(CollectorRegistry())
    config = CONFIG.model_copy(update={"min_streams": streams, "max_streams": streams})
    outbox = Outbox(Caller("prefill-0", "east"), config, None, metrics, time.monotonic)
    try:
        transfer = OutgoingTransfer(TransferId(TRANSFER[0]), 7, OPEN, ended.put)
        peer = outbox.start(receiver.address, None, "mars", transfer)
        for key in PIECES:
            peer.send(transfer, key, Bytes(content(key)))
        peer.finish(transfer, Summary(42, TOKENS, 0, 1.0, 2.0))
        assert ended.get(timeout=10) is None
    finally:
        outbox.close()
        receiver.close()
    assert receiver.objects == OBJECTS
    assert receiver.manifest is not None
    assert receiver.manifest["first_token_id"] == 42
    assert receiver.num_objects >= len(PIECES) + num_resends
    assert receiver.opened == 1 or hang_up_at


def test_the_stranger_shares_nothing_with_us() -> None:
    tree = ast.parse(Path(alien.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not any(module is None or module.split(".")[0] in ("prfaas", "tests") for module in modules)
