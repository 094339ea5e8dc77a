"""Programs of other transfer engines: those that cannot start, and where dense memory puts what it is sent."""

import sys

import pytest

from benchmarks.data_plane.dense import DenseMemory
from benchmarks.data_plane.foreign import PROGRAMS, ForeignReceiver
from benchmarks.data_plane.memory import SHAPE, PromptMemory
from benchmarks.data_plane.setup import Peer
from prfaas.wire.header import ObjectKey


@pytest.mark.parametrize("peer", PROGRAMS)
def test_an_interpreter_without_the_engine_is_an_error(peer: Peer) -> None:
    with pytest.raises(RuntimeError, match="run it by hand"):
        ForeignReceiver(sys.executable, peer, 4096)


def test_dense_memory_has_room_for_every_tensor_once() -> None:
    memory = PromptMemory(seed=0, tokens=128)
    dense = DenseMemory(memory)
    (whole,) = memory.pieces(memory.num_bytes)
    whole[:] = bytes(len(whole))
    for i, layer in enumerate(SHAPE.layers):
        for j in range(len(layer.tensors)):
            view = dense.view(ObjectKey(i, j, 0, layer.num_rows(j, memory.tokens)))
            assert not any(view[:: max(1, len(view) // 64)]), "two tensors share bytes"
            view[:] = b"\xff" * len(view)
    assert bytes(whole) == b"\xff" * memory.num_bytes
