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
    """Sends what the receiver lacks of a prefill as soon as it is there; the memory is read in place, never copied.

    What is cached here goes out at admission, each computed layer when it is done, and the states at the end.
    """

    def __init__(
        self, shape: ModelShape, memory: CacheMemory, peer: Peer, transfer: OutgoingTransfer, *, frame_bytes: int
    ) -> None:
        self._shape = shape
        self._memory = memory
        self._peer = peer
        self._transfer = transfer
        self._frame_bytes = frame_bytes
        self._admitted: Admitted | None = None
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
                self._admitted = event
                for layer in self._shape.paged_layers:
                    self._send(layer, 0, event.cached_tokens)
            case LayerDone(_, layer, start, end):
                self._send(layer, start, end)
            case Prefilled():
                self._finish(event)

    def abandon(self, error: PrfaasError) -> None:
        self._peer.abandon(self._transfer, error)

    def _send(self, layer: int, start: int, end: int) -> None:
        """Tokens [start, end) of a paged layer, but none that the receiver holds; or the whole state of another."""
        assert self._admitted is not None
        cache = self._shape.layers[layer]
        start = max(start, self._transfer.opening.held_tokens)
        for tensor in range(len(cache.tensors)):
            first, last = (start, end) if cache.paged else (0, cache.num_rows(tensor, end))
            for key in self._cut(layer, tensor, first, last):
                parts = self._memory.spans(
                    layer, tensor, key.start, key.end, self._admitted.pages, self._admitted.state_pages
                )
                self._peer.send(self._transfer, key, parts)
                self.bytes_raw += sum(part.nbytes for part in parts)

    def _finish(self, prefilled: Prefilled) -> None:
        assert self._admitted is not None
        self.summary = Summary(
            first_token_id=prefilled.first_token_id,
            tokens_computed=self._transfer.opening.prompt_tokens - self._admitted.cached_tokens,
            tokens_reused=self._admitted.cached_tokens,
            queue_ms=(self._admitted.queue_s + prefilled.queue_s) * 1e3,
            prefill_ms=prefilled.prefill_s * 1e3,
        )
        self._peer.finish(self._transfer, self.summary)

    def _cut(self, layer: int, tensor: int, start: int, end: int) -> Iterator[ObjectKey]:
        """Objects of about equal size, none above the frame size; none at all where nothing lies between the two."""
        most = max(1, self._frame_bytes // self._shape.layers[layer].row_bytes(tensor))
        rows = max(0, end - start)
        pieces = -(-rows // most)
        for i in range(pieces):
            first, last = (start + rows * j // pieces for j in (i, i + 1))
            yield ObjectKey(layer, tensor, first, last)


class KvImport:
    """The transport's `Destination`: one request's reserved pages, of which those of held tokens are never written."""

    def __init__(self, memory: CacheMemory, pages: tuple[int, ...], state_pages: tuple[int, ...]) -> None:
        self._memory = memory
        self._pages = pages
        self._state_pages = state_pages

    def place(self, key: ObjectKey, payload: memoryview) -> None:
        taken = 0
        for span in self._memory.spans(key.layer, key.tensor, key.start, key.end, self._pages, self._state_pages):
            span[:] = payload[taken : taken + span.nbytes]
            taken += span.nbytes
        assert taken == payload.nbytes
