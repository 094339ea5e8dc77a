"""Between cache memory and the wire: exported prefills are cut into objects, received ones put in place."""

from collections.abc import Iterator

from prfaas.core.errors import PrfaasError
from prfaas.core.shape import ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted, LayerDone, Prefilled, RequestEvent
from prfaas.transport.outgoing import OutgoingTransfer, Summary
from prfaas.transport.peer import Peer
from prfaas.wire.header import ObjectKey


class KvExport:
    """Sends each layer of a prefill as soon as it is done; the memory is read in place, never copied."""

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
        self._held: Admitted | None = None
        self.bytes_raw = 0
        self.summary: Summary | None = None

    @property
    def bytes_wire(self) -> int:
        """Payload bytes sent so far."""
        return self._transfer.bytes_wire

    def take(self, event: RequestEvent) -> None:
        """Acts on what the engine reports of the request."""
        match event:
            case Admitted():
                self._held = event
            case LayerDone(_, layer, start, end):
                self._send(layer, start, end)
            case Prefilled():
                self._finish(event)

    def abandon(self, error: PrfaasError) -> None:
        self._peer.abandon(self._transfer, error)

    def _send(self, layer: int, start: int, end: int) -> None:
        assert self._held is not None
        cache = self._shape.layers[layer]
        for tensor in range(len(cache.tensors)):
            first, last = (start, end) if cache.paged else (0, cache.num_rows(tensor, end))
            for key in self._cut(layer, tensor, first, last):
                parts = self._memory.spans(layer, tensor, key.start, key.end, self._held.pages, self._held.slot)
                self._peer.send(self._transfer, key, parts)
                self.bytes_raw += sum(part.nbytes for part in parts)

    def _finish(self, prefilled: Prefilled) -> None:
        assert self._held is not None
        self.summary = Summary(
            prompt_tokens=self._prompt_tokens,
            first_token_id=prefilled.first_token_id,
            tokens_computed=self._prompt_tokens,
            tokens_reused=0,
            queue_ms=(self._held.queue_s + prefilled.queue_s) * 1e3,
            prefill_ms=prefilled.prefill_s * 1e3,
        )
        self._peer.finish(self._transfer, self.summary)

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
