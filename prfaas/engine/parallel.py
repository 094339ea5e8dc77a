"""One step on several ranks: the leader, which schedules and samples, shares each batch with those that follow it."""

import msgspec
import torch
from torch import Tensor

from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.decoder import HybridDecoder
from prfaas.models.distributed import Distributed


class RanksBrokenError(Exception):
    """A rank failed where others go on: they can no longer agree, and the engine must end."""


class SharedBatch(msgspec.Struct, frozen=True, array_like=True):
    """Leader → followers: compute this."""

    token_ids: list[int]
    query_lens: list[int]
    context_lens: list[int]
    block_table: list[list[int]]
    state_from: list[list[int]] | None
    """None: as `state_to`."""
    state_to: list[list[int]]
    continues: list[bool]
    num_decodes: int
    logit_rows: list[int]


def encode(batch: ForwardBatch) -> bytes:
    """The batch as followers read it."""
    return msgspec.msgpack.encode(
        SharedBatch(
            batch.token_ids.tolist(),
            list(batch.query_lens),
            list(batch.context_lens),
            batch.block_table.tolist(),
            None if batch.state_from is batch.state_to else batch.state_from.tolist(),
            batch.state_to.tolist(),
            list(batch.continues),
            batch.num_decodes,
            batch.logit_rows.tolist(),
        )
    )


def decode(payload: bytes) -> ForwardBatch:
    """Inverse of `encode`."""
    shared = msgspec.msgpack.decode(payload, type=SharedBatch)
    state_to = torch.tensor(shared.state_to, dtype=torch.int64)
    moved = shared.state_from
    return ForwardBatch(
        token_ids=torch.tensor(shared.token_ids, dtype=torch.int64),
        query_lens=tuple(shared.query_lens),
        context_lens=tuple(shared.context_lens),
        block_table=torch.tensor(shared.block_table, dtype=torch.int64),
        state_from=state_to if moved is None else torch.tensor(moved, dtype=torch.int64),
        state_to=state_to,
        continues=tuple(shared.continues),
        num_decodes=shared.num_decodes,
        logit_rows=torch.tensor(shared.logit_rows, dtype=torch.int64),
    )


class Leader:
    """Rank 0's forward pass; the runner calls it as it calls a decoder alone."""

    def __init__(self, decoder: HybridDecoder, ranks: Distributed) -> None:
        self._decoder = decoder
        self._ranks = ranks

    def forward(self, batch: ForwardBatch, cache: CacheTensors, on_layer: LayerDone | None = None) -> Tensor:
        """Logits [S, vocab] in fp32. Raises RanksBrokenError, after which no rank is of any use."""
        try:
            self._ranks.share(encode(batch))
            return self._decoder.forward(batch, cache, on_layer)
        except (RuntimeError, IndexError, ValueError) as error:
            raise RanksBrokenError(f"a step on {self._ranks.size} ranks failed: {error}") from error

    def stop(self) -> None:
        """Lets the followers end."""
        self._ranks.share(b"")


def follow(decoder: HybridDecoder, cache: CacheTensors, ranks: Distributed) -> None:
    """Computes what the leader shares until it stops. Raises RuntimeError when the leader is gone."""
    while payload := ranks.share(None):
        decoder.forward(decode(payload), cache)
