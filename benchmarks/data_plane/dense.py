"""Transport without pages, codecs and digests: what is left of ours when it only moves bytes. For "raw" alone."""

from benchmarks.data_plane.memory import SHAPE, PromptMemory
from prfaas.core.errors import TransferError
from prfaas.core.shape import ModelShape
from prfaas.transport.outgoing import OutgoingTransfer, Payload
from prfaas.transport.peer import Peer
from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.sending import Summary


class DenseMemory:
    """A prompt's tensors one behind the other, each object's bytes in one piece."""

    def __init__(self, memory: PromptMemory) -> None:
        self._tokens = memory.tokens
        (self._bytes,) = memory.pieces(memory.num_bytes)
        self._starts: dict[tuple[int, int], int] = {}
        at = 0
        for i, layer in enumerate(SHAPE.layers):
            for j in range(len(layer.tensors)):
                self._starts[i, j] = at
                at += layer.num_rows(j, self._tokens) * layer.row_bytes(j)
        assert at == memory.num_bytes, f"{at} bytes laid out of {memory.num_bytes}"

    def view(self, key: ObjectKey) -> memoryview:
        row_bytes = SHAPE.layers[key.layer].row_bytes(key.tensor)
        start = self._starts[key.layer, key.tensor]
        return self._bytes[start + key.start * row_bytes : start + key.end * row_bytes]

    def send(self, peer: Peer, transfer: OutgoingTransfer, frame_bytes: int) -> None:
        """All of it, in frames as full as rows allow."""
        for i, j in self._starts:
            layer = SHAPE.layers[i]
            rows, step = layer.num_rows(j, self._tokens), max(1, frame_bytes // layer.row_bytes(j))
            for start in range(0, rows, step):
                key = ObjectKey(i, j, start, min(start + step, rows))
                peer.send(transfer, key, DenseSource(self.view(key)))
        peer.finish(transfer, Summary(0, self._tokens, 0, 0.0, 0.0))


class DenseSource:
    """One object's bytes as they lie."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def payload(self, staging: memoryview) -> Payload:
        del staging
        return Payload(Codec.RAW, self._view.nbytes, [self._view])


class DenseDestination:
    """Takes bytes as they come."""

    def __init__(self, memory: DenseMemory) -> None:
        self._memory = memory

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        del codec, sent
        return [self._memory.view(key)]

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        raise TransferError(
            f"{key} came as {codec} of {payload.nbytes} bytes for {sent.model_type}, which was not offered"
        )
