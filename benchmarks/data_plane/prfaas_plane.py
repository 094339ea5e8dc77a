"""Our own data plane, used exactly as instances use it: `KvExport` into an `Outbox`, a `DataServer` into `KvImport`."""

import queue
import socket
import time
from collections.abc import Callable
from types import ModuleType
from typing import ParamSpec, TypeVar

from prfaas.wire.session import Expectation, ReceiveSession
from prometheus_client import CollectorRegistry

from benchmarks.data_plane.memory import PROMPT_TOKENS, SHAPE, PromptMemory
from prfaas.config.sections import EngineSection, TransportSection
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import SECRET_BYTES, TRANSFER_ID_BYTES, RequestId, TransferId
from prfaas.engine.messages import Admitted, LayerDone, Prefilled
from prfaas.instance.kv import KvExport, KvImport
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport import framing, peer, server
from prfaas.transport.inbox import Inbox, Outcome, Received
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.transport.server import DataServer
from prfaas.wire.header import ObjectKey
from prfaas.wire.messages import Hello, Open

P = ParamSpec("P")
R = TypeVar("R")

EPOCH = 1
REQUEST_ID = RequestId("benchmark")
SECRET = bytes(SECRET_BYTES)
FINGERPRINT = "benchmark"
STEP_TOKENS = EngineSection().step_tokens
CONFIG = TransportSection()


class Stopwatch:
    """Wall time by step, of the one thread that moves a connection's bytes."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def timed(self, step: str, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, its time counted; costs half a microsecond a call."""

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._seconds[step] = self._seconds.get(step, 0.0) + time.perf_counter() - started

        return run

    def watch(self, step: str, module: ModuleType, name: str) -> None:
        """Times a function where `module` calls it."""
        setattr(module, name, self.timed(step, getattr(module, name)))

    def take(self) -> dict[str, float]:
        """Seconds by step since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds


class _TimedImport:
    """A `Destination` that counts the time of placing."""

    def __init__(self, destination: KvImport, watch: Stopwatch) -> None:
        self._place = watch.timed("place", destination.place)

    def place(self, key: ObjectKey, payload: memoryview) -> None:
        self._place(key, payload)


class PrfaasReceiver:
    """A data server that places into page memory."""

    def __init__(self, memory: PromptMemory) -> None:
        self._memory = memory
        self._watch = Stopwatch()
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._expected = range(0)
        self._inbox = Inbox(time.monotonic)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self._watch.watch("xxh3", framing, "payload_digest")
        # Only payloads: waiting for a header is also what an idle connection does.
        self._watch.watch("receive", server, "receive_payload")
        DataServer(listener, self._inbox, CONFIG, InstanceMetrics(CollectorRegistry()), time.monotonic).start()

    def expect(self, prompts: int) -> None:
        """Tickets for the next prompts, numbered on from the last round's."""
        self._expected = range(self._expected.stop, self._expected.stop + prompts)
        for number in self._expected:
            whole = KvImport(self._memory.memory, self._memory.pages, self._memory.state_pages)
            destination = _TimedImport(whole, self._watch)
            session = ReceiveSession(Expectation(SHAPE, FINGERPRINT, PROMPT_TOKENS, SECRET))
            self._inbox.expect(_transfer_id(number), EPOCH, session, destination, self._ended.put)

    def wait(self) -> dict[str, float]:
        for _ in self._expected:
            outcome = self._ended.get()
            assert isinstance(outcome, Received), outcome
        for number in self._expected:
            self._inbox.close(_transfer_id(number), EPOCH, PrfaasError("over"))
        seconds = self._watch.take()
        return {**seconds, "receive": seconds["receive"] - seconds["xxh3"]}


class PrfaasSender:
    """An outbox with one peer, whose connection stays open between rounds."""

    def __init__(self, memory: PromptMemory, address: str) -> None:
        self._memory = memory
        self._watch = Stopwatch()
        self._sent = 0
        self._ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
        self._watch.watch("xxh3", peer, "payload_digest")
        self._watch.watch("send", peer, "send_frame")
        self._address = address
        self._outbox = Outbox(Hello("benchmark", "east"), CONFIG, InstanceMetrics(CollectorRegistry()), time.monotonic)

    def send(self, prompts: int) -> dict[str, float]:
        """Back to back, chunk by chunk as prefill makes them."""
        for _ in range(prompts):
            self._export()
        for _ in range(prompts):
            error = self._ended.get()
            assert error is None, error
        return self._watch.take()

    def _export(self) -> None:
        opening = Open(SECRET, FINGERPRINT, PROMPT_TOKENS, held_tokens=0)
        transfer = OutgoingTransfer(_transfer_id(self._sent), EPOCH, opening, self._ended.put)
        self._sent += 1
        connection = self._outbox.start(self._address, None, transfer)
        export = KvExport(
            SHAPE,
            self._memory.memory,
            connection,
            transfer,
            frame_bytes=CONFIG.frame_bytes,
        )
        export.take(
            Admitted(REQUEST_ID, self._memory.pages, self._memory.state_pages, 0.0, cached_tokens=0, held_tokens=0)
        )
        for start in range(0, PROMPT_TOKENS, STEP_TOKENS):
            end = min(start + STEP_TOKENS, PROMPT_TOKENS)
            layers = range(len(SHAPE.layers)) if end == PROMPT_TOKENS else SHAPE.paged_layers
            for layer in layers:
                export.take(LayerDone(REQUEST_ID, layer, start, end))
        export.take(Prefilled(REQUEST_ID, first_token_id=0, queue_s=0.0, prefill_s=0.0, tokens_reused=0))


def _transfer_id(number: int) -> TransferId:
    return TransferId(number.to_bytes(TRANSFER_ID_BYTES, "little"))
