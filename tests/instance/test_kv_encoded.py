"""Encoded KV over sockets, from pages into pages of another size and dtype."""

import queue
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import CodecName, TransportSection
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.engine.messages import Admitted, Prefilled
from prfaas.instance.kv import KvExport, KvImport
from prfaas.instance.kv_codec import FAMILIES, KvCodec
from prfaas.instance.kv_encoding import Encoding
from prfaas.policy.codec import Route
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox
from prfaas.transport.incoming import Outcome, Received
from prfaas.transport.outbox import Outbox
from prfaas.transport.server import DataServer
from prfaas.wire.header import Codec
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.instance.kv_end import FRAME_BYTES, REQUEST, TOKENS, End, prefill, shape_in, transfer_of

CONFIG = TransportSection(frame_bytes=FRAME_BYTES, min_streams=2, max_streams=2)
WAIT_S = 20


@pytest.fixture(scope="module")
def codec() -> KvCodec:
    return KvCodec.open()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(time.monotonic)


@pytest.fixture
def address(inbox: Inbox) -> Iterator[str]:
    listener, metrics = socket.create_server(("127.0.0.1", 0)), InstanceMetrics(CollectorRegistry())
    server = DataServer(listener, inbox, Host("near", "west", 1), CONFIG, None, metrics, time.monotonic)
    server.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.close()


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    outbox = Outbox(Caller("far", "east"), CONFIG, None, InstanceMetrics(CollectorRegistry()), time.monotonic)
    yield outbox
    outbox.close()


def crossed(
    codec: KvCodec, inbox: Inbox, address: str, outbox: Outbox, sender: End, receiver: End, names: tuple[CodecName, ...]
) -> Received:
    """One transfer to its commit on both sides."""
    allowed = frozenset({Codec.RAW}).union(*(FAMILIES[name] for name in names))
    expectation = Expectation(
        receiver.shape,
        {dtype: shape_in(dtype) for dtype in ("float32", "bfloat16")},
        "f",
        TOKENS,
        b"s" * 16,
        codecs=allowed,
    )
    arrived: queue.Queue[Outcome] = queue.Queue()
    left: queue.Queue[PrfaasError | None] = queue.Queue()
    destination = KvImport(receiver.shape, receiver.memory, receiver.pages, receiver.state_pages, codec)
    inbox.expect(TransferId(bytes(16)), 1, ReceiveSession(expectation), destination, arrived.put)
    transfer = transfer_of(0, left.put)
    peer = outbox.start(address, None, "west", transfer)
    encoding = Encoding(codec, frozenset(names), lambda: Route(usd_per_gb=1.0), time.monotonic)
    export = KvExport(sender.shape, sender.memory, peer, transfer, encoding, frame_bytes=FRAME_BYTES)
    prefill(sender, export, Admitted(REQUEST, sender.pages, sender.state_pages, 0.0, 0, 0))
    export.take(Prefilled(REQUEST, 7, 0, 0.0, 0.0))
    outcome = arrived.get(timeout=WAIT_S)
    assert left.get(timeout=WAIT_S) is None
    assert isinstance(outcome, Received), outcome
    assert (export.bytes_raw, export.bytes_wire) == (outcome.bytes_raw, outcome.bytes_wire)
    return outcome


def test_without_loss_all_is_the_same_in_another_dtype(
    codec: KvCodec, inbox: Inbox, address: str, outbox: Outbox
) -> None:
    sender, receiver = End("bfloat16", 16, seed=1), End("float32", 10, seed=2)
    sender.fill()
    received = crossed(codec, inbox, address, outbox, sender, receiver, ("raw", "exact"))
    assert received.codecs == {Codec.RAW, Codec.EXACT}
    assert not received.lossy
    assert received.bytes_raw == sender.shape.cache_bytes(TOKENS) > received.bytes_wire
    for layer, cache in enumerate(sender.shape.layers):
        for tensor in range(len(cache.tensors)):
            assert np.array_equal(receiver.values(layer, tensor), sender.values(layer, tensor))


def test_what_is_rounded_is_told(codec: KvCodec, inbox: Inbox, address: str, outbox: Outbox) -> None:
    sender, receiver = End("bfloat16", 16, seed=1), End("bfloat16", 16, seed=2)
    sender.fill()
    received = crossed(codec, inbox, address, outbox, sender, receiver, ("raw", "exact", "int8", "state16"))
    assert received.lossy
    assert received.bytes_raw > 1.7 * received.bytes_wire
