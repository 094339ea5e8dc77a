"""Between cache memory and the wire: exported prefills are cut into objects, received ones put in place."""

from collections.abc import Iterator

from prfaas.core.errors import ManifestError, PrfaasError
from prfaas.core.shape import ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted, LayerDone, Lent, Prefilled, RequestEvent
from prfaas.instance.fetched import Fetched
from prfaas.instance.kv_codec import KvCodec
from prfaas.instance.kv_convert import convert
from prfaas.instance.kv_cut import cut
from prfaas.instance.kv_encoding import Encoding
from prfaas.instance.kv_rows import RequestRows
from prfaas.instance.kv_source import EncodedSource, RawSource
from prfaas.instance.late_peer import Way
from prfaas.transport.outgoing import OutgoingTransfer, Source
from prfaas.wire.header import CODEC_NAMES, Codec, ObjectKey
from prfaas.wire.sending import Summary


class KvExport:
    """Sends what the receiver lacks of a prefill as soon as it is there; raw bytes are read in place, never copied.

    What is cached here goes out at admission, each computed layer when it is done, and the states at the end. Of a
    prefix that is only lent all is cached.
    """

    def __init__(
        self,
        shape: ModelShape,
        memory: CacheMemory,
        peer: Way,
        transfer: OutgoingTransfer,
        encoding: Encoding,
        *,
        frame_bytes: int,
    ) -> None:
        self._shape = shape
        self._memory = memory
        self._peer = peer
        self._transfer = transfer
        self._encoding = encoding
        self._frame_bytes = frame_bytes
        self._admitted: Admitted | None = None
        self._rows: RequestRows | None = None
        self.fetched: Fetched | None = None
        """What another instance's cache has sent of the prompt before it was admitted here."""
        self.summary: Summary | None = None

    @property
    def bytes_raw(self) -> int:
        """Of the objects sent so far, before encoding."""
        return self._transfer.session.bytes_raw

    @property
    def bytes_wire(self) -> int:
        """Payload bytes sent so far."""
        return self._transfer.session.bytes_wire

    def take(self, event: RequestEvent) -> None:
        """Acts on what the engine reports of the request."""
        match event:
            case Admitted():
                self._admitted = event
                self._rows = RequestRows(self._shape, self._memory, event.pages, event.state_pages)
                for layer in self._shape.paged_layers:
                    # What was rounded before is cut apart from what was not.
                    self._send(layer, 0, event.lossy_tokens, rounded=True)
                    self._send(layer, event.lossy_tokens, event.cached_tokens, rounded=False)
            case LayerDone(_, layer, start, end):
                assert self._admitted is not None
                cache = self._shape.layers[layer]
                self._encoding.produced((end - start) * cache.num_bytes if cache.paged else cache.num_bytes)
                self._send(layer, start, end, rounded=not cache.paged and self._admitted.lossy_state)
            case Lent():
                self._finish_lent()
            case Prefilled():
                self._finish(event)

    def abandon(self, error: PrfaasError) -> None:
        self._peer.abandon(self._transfer, error)

    def _send(self, layer: int, start: int, end: int, *, rounded: bool) -> None:
        """Tokens [start, end) of a paged layer, but none that the receiver holds; or the whole state of another."""
        cache = self._shape.layers[layer]
        start = max(start, self._transfer.opening.held_tokens)
        for tensor in range(len(cache.tensors)):
            first, last = (start, end) if cache.paged else (0, cache.num_rows(tensor, end))
            codec = self._encoding.codec_for(self._shape, layer, tensor, rounded=rounded)
            for key in self._cut(layer, tensor, first, last):
                self._peer.send(self._transfer, key, self._source(key, codec))

    def _source(self, key: ObjectKey, codec: Codec) -> Source:
        assert self._rows is not None
        if codec is Codec.RAW:
            return RawSource(self._rows, key)
        assert self._encoding.codec is not None
        return EncodedSource(codec, self._encoding.codec, self._rows, key)

    def _cut(self, layer: int, tensor: int, start: int, end: int) -> Iterator[ObjectKey]:
        row_bytes = self._shape.layers[layer].row_bytes(tensor)
        for first, last in cut(start, end, row_bytes, self._frame_bytes):
            yield ObjectKey(layer, tensor, first, last)

    def _finish(self, prefilled: Prefilled) -> None:
        assert self._admitted is not None
        reused, fetched = self._admitted.cached_tokens, self.fetched
        self.summary = Summary(
            first_token_id=prefilled.first_token_id,
            tokens_computed=self._transfer.opening.prompt_tokens - reused,
            tokens_reused=reused,
            queue_ms=(self._admitted.queue_s + prefilled.queue_s) * 1e3,
            prefill_ms=prefilled.prefill_s * 1e3,
            tokens_fetched=fetched.tokens(reused) if fetched else 0,
            fetched_from=fetched.source(reused) if fetched else "",
            rounded=self._rounded,
        )
        self._peer.finish(self._transfer, self.summary)

    def _finish_lent(self) -> None:
        assert self._admitted is not None
        tokens = self._admitted.cached_tokens
        for layer, cache in enumerate(self._shape.layers):
            if not cache.paged:
                self._send(layer, 0, tokens, rounded=self._admitted.lossy_state)
        self.summary = Summary(None, 0, tokens, 0.0, 0.0, rounded=self._rounded)
        self._peer.finish(self._transfer, self.summary)

    @property
    def _rounded(self) -> bool:
        assert self._admitted is not None
        return self._admitted.lossy_state or self._admitted.lossy_tokens > self._transfer.opening.held_tokens


class KvImport:
    """The transport's `Destination`: one request's reserved pages, of which those of held tokens are never written.

    Its methods are called on threads of connections, of several at once for different rows.
    """

    def __init__(
        self,
        shape: ModelShape,
        memory: CacheMemory,
        pages: tuple[int, ...],
        state_pages: tuple[int, ...],
        codec: KvCodec | None,
    ) -> None:
        """`codec`: None where there is no compiler, and nothing but raw is offered."""
        self._rows = RequestRows(shape, memory, pages, state_pages)
        self._codec = codec

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        """The rows themselves, if they are what the payload is; else it must be placed."""
        if codec is Codec.RAW and self._same_dtype(key, sent):
            return self._rows.spans(key)
        return None

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        """Decodes and converts verified bytes into the rows. Raises ManifestError when they cannot be decoded; the
        rows are then undefined, and the transfer must not be committed."""
        if codec is Codec.RAW:
            self._put(key, sent, payload)
        elif self._codec is None:
            raise ManifestError(f"{key} came as {CODEC_NAMES[codec]}, which cannot be decoded here and was not offered")
        elif codec is Codec.EXACT and not self._same_dtype(key, sent):
            num_rows, row_bytes = key.end - key.start, sent.layers[key.layer].row_bytes(key.tensor)
            scratch = memoryview(bytearray(num_rows * row_bytes))
            self._codec.decode_exact_dense(payload, key, scratch)
            self._put(key, sent, scratch)
        else:
            # What is decoded from int8 is rounded to the rows' own dtype at once.
            self._codec.decode(codec, payload, self._rows, key)

    def _put(self, key: ObjectKey, sent: ModelShape, values: memoryview) -> None:
        spans, own = self._rows.spans(key), self._rows.tensor(key).dtype
        if not self._same_dtype(key, sent):
            convert(values, sent.layers[key.layer].tensors[key.tensor].dtype, spans, own)
            return
        taken = 0
        for span in spans:
            span[:] = values[taken : taken + span.nbytes]
            taken += span.nbytes
        assert taken == values.nbytes

    def _same_dtype(self, key: ObjectKey, sent: ModelShape) -> bool:
        return sent.layers[key.layer].tensors[key.tensor].dtype == self._rows.tensor(key).dtype
