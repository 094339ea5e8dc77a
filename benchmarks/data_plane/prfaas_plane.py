"""Our own data plane as instances use it: `KvExport` into an `Outbox`, a `DataServer` into `KvImport`."""

import queue
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from benchmarks.data_plane import certificates
from benchmarks.data_plane.dense import DenseDestination, DenseMemory
from benchmarks.data_plane.memory import SHAPE, PromptMemory
from benchmarks.data_plane.rounds import Sent, process_cpu_s
from benchmarks.data_plane.setup import Setup
from prfaas.config.sections import EngineSection, TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import SECRET_BYTES, TRANSFER_ID_BYTES, RequestId, TransferId
from prfaas.core.shape import DType
from prfaas.engine.messages import Admitted, LayerDone, Prefilled
from prfaas.instance.kv import KvExport, KvImport
from prfaas.instance.kv_encoding import Encoding
from prfaas.policy.codec import Route
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.host import Host
from prfaas.transport.inbox import Destination, Inbox, Outcome, Received
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.transport.server import DataServer
from prfaas.wire.header import Digest
from prfaas.wire.messages import Open
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation
from prfaas_kernels.bytes_codec import SpansDigest

EPOCH = 1
REQUEST_ID = RequestId("benchmark")
SECRET = bytes(SECRET_BYTES)
FINGERPRINT = "benchmark"
KV_DTYPE: DType = "bfloat16"
STEP_TOKENS = EngineSection().step_tokens


def transport_section(setup: Setup) -> TransportSection:
    """The default but for the streams, which do not adapt, and the congestion control."""
    return TransportSection(
        min_streams=setup.streams, max_streams=setup.streams, congestion_control=setup.control, codecs=("raw",)
    )


def digest_of(setup: Setup) -> Digest:
    """As instances have it; none for "raw"."""
    return _nothing if setup.peer == "raw" else SpansDigest.open()


def _nothing(parts: Sequence[object]) -> int:  # noqa: ARG001 - stands for a digest of parts
    return 0


class PrfaasReceiver:
    """A data server that places into page memory or, for "raw", into as many bytes in a row."""

    def __init__(self, memory: PromptMemory, host: str, setup: Setup, secrets: str) -> None:
        self._memory = memory
        self._dense = _dense(memory, setup)
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._expected = range(0)
        self._inbox = Inbox(time.monotonic)
        listener = socket.create_server((host, 0))
        self.address = f"{host}:{listener.getsockname()[1]}"
        self._server = DataServer(
            listener,
            self._inbox,
            Host("receiver", "west", EPOCH),
            transport_section(setup),
            _credentials(setup, secrets),
            InstanceMetrics(CollectorRegistry()),
            time.monotonic,
            digest_of(setup),
        )
        self._server.start()

    def expect(self, prompts: int) -> None:
        """Tickets for the next prompts, numbered on from the last round's."""
        self._expected = range(self._expected.stop, self._expected.stop + prompts)
        for number in self._expected:
            expectation = Expectation(SHAPE, {KV_DTYPE: SHAPE}, FINGERPRINT, self._memory.tokens, SECRET)
            session = ReceiveSession(expectation)
            self._inbox.expect(_transfer_id(number), EPOCH, session, self._destination(), self._ended.put)

    def wait(self) -> None:
        for _ in self._expected:
            outcome = self._ended.get()
            assert isinstance(outcome, Received), repr(outcome)
        for number in self._expected:
            self._inbox.close(_transfer_id(number), EPOCH, PrfaasError("over"))

    def cpu_s(self) -> float:
        return process_cpu_s()

    def digest(self) -> int:
        return self._memory.dense_digest() if self._dense else self._memory.digest()

    def _destination(self) -> Destination:
        if self._dense is not None:
            return DenseDestination(self._dense)
        return KvImport(SHAPE, self._memory.memory, self._memory.pages, self._memory.state_pages, None)


class PrfaasSender:
    """An outbox with one peer, whose connections stay open between rounds."""

    def __init__(self, memory: PromptMemory, address: str, setup: Setup, secrets: str) -> None:
        self._memory = memory
        self._dense = _dense(memory, setup)
        self._address = address
        self._proxy = setup.proxy
        self._gb_s = setup.gb_s
        self._config = transport_section(setup)
        self._numbers = 0
        self._ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
        self._outbox = Outbox(
            Caller("sender", "east"),
            self._config,
            _credentials(setup, secrets),
            InstanceMetrics(CollectorRegistry()),
            time.monotonic,
            digest_of(setup),
        )

    def send(self, prompts: int) -> Sent:
        """Back to back, chunk by chunk as prefill makes them."""
        started, spent_s = time.perf_counter(), process_cpu_s()
        transfers = [self.export() for _ in range(prompts)]
        for _ in transfers:
            error = self._ended.get()
            assert error is None, repr(error)
        seconds, spent_s = time.perf_counter() - started, process_cpu_s() - spent_s
        return Sent(seconds, spent_s, sum(transfer.session.bytes_again for transfer in transfers))

    def digest(self) -> int:
        return self._memory.dense_digest() if self._dense else self._memory.digest()

    def export(self) -> OutgoingTransfer:
        """Hands one prompt over; it is on its way when this returns."""
        opening = Open(SECRET, FINGERPRINT, self._memory.tokens, 0, KV_DTYPE)
        transfer = OutgoingTransfer(_transfer_id(self._numbers), EPOCH, opening, self._ended.put)
        self._numbers += 1
        peer = self._outbox.start(self._address, self._proxy, "west", transfer)
        if self._dense is not None:
            self._dense.send(peer, transfer, self._config.frame_bytes)
            return transfer
        export = KvExport(SHAPE, self._memory.memory, peer, transfer, _raw(), frame_bytes=self._config.frame_bytes)
        export.take(
            Admitted(REQUEST_ID, self._memory.pages, self._memory.state_pages, 0.0, cached_tokens=0, held_tokens=0)
        )
        started_s = time.monotonic()
        for start in range(0, self._memory.tokens, STEP_TOKENS):
            self._keep_pace(started_s, start)
            end = min(start + STEP_TOKENS, self._memory.tokens)
            for layer in range(len(SHAPE.layers)) if end == self._memory.tokens else SHAPE.paged_layers:
                export.take(LayerDone(REQUEST_ID, layer, start, end))
        export.take(Prefilled(REQUEST_ID, first_token_id=0, queue_s=0.0, prefill_s=0.0, tokens_reused=0))
        return transfer

    def _keep_pace(self, started_s: float, tokens: int) -> None:
        """Waits until that many tokens of a prompt may have been handed over."""
        if self._gb_s is not None:
            due_s = started_s + tokens / self._memory.tokens * self._memory.num_bytes / (self._gb_s * 1e9)
            time.sleep(max(0.0, due_s - time.monotonic()))


def _dense(memory: PromptMemory, setup: Setup) -> DenseMemory | None:
    if setup.peer != "raw":
        return None
    return DenseMemory(memory)


def _raw() -> Encoding:
    """Encodes nothing, whatever the way is like."""
    return Encoding(None, frozenset(), Route, time.monotonic)


def _credentials(setup: Setup, secrets: str) -> Credentials | None:
    return certificates.read(Path(secrets)) if setup.peer == "mtls" else None


def _transfer_id(number: int) -> TransferId:
    return TransferId(number.to_bytes(TRANSFER_ID_BYTES, "little"))
