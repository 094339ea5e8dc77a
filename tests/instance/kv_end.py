"""One end of a transfer of a small model of all kinds of layers: its cache in pages, and what an export sends."""

from random import Random
from typing import cast

import numpy as np
from numpy.typing import NDArray

from prfaas.cache.layout import lay_out
from prfaas.core.ids import RequestId, TransferId
from prfaas.core.shape import CacheTensor, DType, LayerCache, ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted, LayerDone
from prfaas.instance.kv import KvExport
from prfaas.instance.kv_encoding import Encoding
from prfaas.transport.outgoing import OnDone, OutgoingTransfer, Payload, Source
from prfaas.transport.peer import Peer
from prfaas.wire.header import ObjectKey
from prfaas.wire.messages import Open

TOKENS = 150
FRAME_BYTES = 32 << 10
REQUEST = RequestId("r")


def shape_in(dtype: DType) -> ModelShape:
    gqa = LayerCache("gqa", True, (CacheTensor("k", (2, 64), dtype), CacheTensor("v", (2, 64), dtype)))
    ring = LayerCache("window", False, (CacheTensor("k", (7, 2, 64), dtype), CacheTensor("v", (7, 2, 64), dtype)))
    states = CacheTensor("state", (3, 16, 16), "float32"), CacheTensor("conv", (3, 96), dtype)
    mla = LayerCache("mla", True, (CacheTensor("latent", (96,), dtype),))
    return ModelShape("small", (LayerCache("kda", False, states), gqa, ring, mla), 1024)


class End:
    """Pages in random order, as in a pool that has lived."""

    def __init__(self, dtype: DType, page_tokens: int, seed: int) -> None:
        self.shape = shape_in(dtype)
        layout = lay_out(self.shape, page_tokens)
        kv_pages = -(-TOKENS // page_tokens)
        num_pages = kv_pages + layout.state_pages
        order = tuple(Random(seed).sample(range(num_pages), num_pages))
        self.pages, self.state_pages = order[:kv_pages], order[kv_pages:]
        self.memory = CacheMemory(self.shape, layout, memoryview(bytearray(layout.num_bytes(num_pages))))

    def fill(self) -> None:
        """Normal values; of keys the size differs from channel to channel."""
        random = np.random.default_rng(1)
        for layer, cache in enumerate(self.shape.layers):
            for tensor, cached in enumerate(cache.tensors):
                rows = cache.num_rows(tensor, TOKENS)
                width = int(np.prod(cached.dims[0 if cache.paged else 1 :]))
                size = np.exp(random.standard_normal(width)) if cached.name == "k" else np.ones(width)
                values = (random.standard_normal((rows, width)) * size).astype(np.float32)
                self.put(layer, tensor, values)

    def put(self, layer: int, tensor: int, values: NDArray[np.float32]) -> None:
        """`values` [rows, ...], cut to bf16 where that is the dtype."""
        bits = values.astype("<f4").view("<u4")
        bf16 = self.shape.layers[layer].tensors[tensor].dtype == "bfloat16"
        data, at = memoryview(((bits >> 16).astype("<u2") if bf16 else bits).tobytes()), 0
        for span in self.spans(layer, tensor):
            span[:] = data[at : at + span.nbytes]
            at += span.nbytes

    def spans(self, layer: int, tensor: int) -> list[memoryview]:
        rows = self.shape.layers[layer].num_rows(tensor, TOKENS)
        return self.memory.spans(layer, tensor, 0, rows, self.pages, self.state_pages)

    def values(self, layer: int, tensor: int) -> NDArray[np.float32]:
        """All of a tensor, in fp32."""
        data = b"".join(self.spans(layer, tensor))
        if self.shape.layers[layer].tensors[tensor].dtype == "float32":
            return np.frombuffer(data, "<f4")
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


class Sent:
    """Stands for the peer: keeps the sources."""

    def __init__(self) -> None:
        self.sources: dict[ObjectKey, Source] = {}

    def send(self, _transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        assert key not in self.sources
        self.sources[key] = source

    def payloads(self) -> dict[ObjectKey, tuple[Payload, bytes]]:
        """Each object as it goes out, twice, from memory that is used for the next one at once."""
        staging, found = memoryview(bytearray(FRAME_BYTES)), {}
        for key, source in self.sources.items():
            first = source.payload(staging)
            data = b"".join(first.parts)
            again = source.payload(staging)
            assert (again.codec, b"".join(again.parts)) == (first.codec, data)
            found[key] = first, data
        return found


def transfer_of(held: int = 0, on_done: OnDone = lambda _: None, dtype: DType = "bfloat16") -> OutgoingTransfer:
    """Of a prompt of which the receiver holds `held` tokens."""
    return OutgoingTransfer(TransferId(bytes(16)), 1, Open(b"s" * 16, "f", TOKENS, held, dtype), on_done)


def export(
    end: End, encoding: Encoding, *, cached: int = 0, held: int = 0, lossy_tokens: int = 0, lossy_state: bool = False
) -> Sent:
    """What leaves of a prompt of which `cached` tokens were there, and the receiver holds `held`."""
    sent = Sent()
    out = KvExport(end.shape, end.memory, cast("Peer", sent), transfer_of(held), encoding, frame_bytes=FRAME_BYTES)
    prefill(end, out, Admitted(REQUEST, end.pages, end.state_pages, 0.0, cached, 0, lossy_tokens, lossy_state))
    return sent


def prefill(end: End, out: KvExport, admitted: Admitted) -> None:
    """What an engine reports of it: two chunks, layer by layer."""
    out.take(admitted)
    cached = admitted.cached_tokens
    middle = max(cached, TOKENS // 2)
    for start, stop in ((cached, middle), (middle, TOKENS)):
        for layer, cache in enumerate(end.shape.layers):
            if cache.paged:
                out.take(LayerDone(REQUEST, layer, start, stop))
            elif stop == TOKENS:
                out.take(LayerDone(REQUEST, layer, 0, stop))
