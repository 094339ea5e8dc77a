"""Between cache memory and the wire: exported prefills are cut into objects, received ones put in place."""

from collections.abc import Iterator

from prfaas.core.errors import PrfaasError
from prfaas.core.shape import ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.transport.outgoing import OutgoingTransfer, Summary
from prfaas.transport.peer import Peer
from prfaas.wire.header import ObjectKey


class KvExport:
    """A `KvSink` that sends each layer as soon as it is done; the memory is read in place, never copied."""

    def __init__(
        self,
        shape: ModelShape,
        memory: CacheMemory,
        peer: Peer,
        transfer: OutgoingTransfer,
        *,
        prompt_tokens: int,
        frame_bytes: int,
    ) -> None:
        self._shape = shape
        self._memory = memory
        self._peer = peer
        self._transfer = transfer
        self._prompt_tokens = prompt_tokens
        self._frame_bytes = frame_bytes
        self._pages: tuple[int, ...] = ()
        self._slot = -1
        self.bytes_raw = 0
        self.summary: Summary | None = None

    @property
    def bytes_wire(self) -> int:
        """Payload bytes sent so far."""
        return self._transfer.bytes_wire

    def reserved(self, pages: tuple[int, ...], slot: int) -> None:
        self._pages, self._slot = pages, slot

    def layer_done(self, layer: int, start: int, end: int) -> None:
        cache = self._shape.layers[layer]
        for tensor in range(len(cache.tensors)):
            first, last = (start, end) if cache.paged else (0, cache.num_rows(tensor, end))
            for key in self._cut(layer, tensor, first, last):
                parts = self._memory.spans(layer, tensor, key.start, key.end, self._pages, self._slot)
                self._peer.send(self._transfer, key, parts)
                self.bytes_raw += sum(part.nbytes for part in parts)

    def finished(self, first_token_id: int, queue_s: float, prefill_s: float) -> None:
        self.summary = Summary(
            prompt_tokens=self._prompt_tokens,
            first_token_id=first_token_id,
            tokens_computed=self._prompt_tokens,
            tokens_reused=0,
            queue_ms=queue_s * 1e3,
            prefill_ms=prefill_s * 1e3,
        )
        self._peer.finish(self._transfer, self.summary)

    def abandon(self, error: PrfaasError) -> None:
        self._peer.abandon(self._transfer, error)

    def _cut(self, layer: int, tensor: int, start: int, end: int) -> Iterator[ObjectKey]:
        """Objects of about equal size, none above the frame size."""
        most = max(1, self._frame_bytes // self._shape.layers[layer].row_bytes(tensor))
        pieces = -(-(end - start) // most)
        for i in range(pieces):
            first, last = (start + (end - start) * j // pieces for j in (i, i + 1))
            yield ObjectKey(layer, tensor, first, last)


class KvImport:
    """The transport's `Destination`: one request's reserved pages and slot."""

    def __init__(self, memory: CacheMemory, pages: tuple[int, ...], slot: int) -> None:
        self._memory = memory
        self._pages = pages
        self._slot = slot

    def place(self, key: ObjectKey, payload: memoryview) -> None:
        taken = 0
        for span in self._memory.spans(key.layer, key.tensor, key.start, key.end, self._pages, self._slot):
            span[:] = payload[taken : taken + span.nbytes]
            taken += span.nbytes
        assert taken == payload.nbytes
