"""What a model's forward pass is given: packed tokens, and where each sequence's cache lies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from prfaas.models.row_table import RowTable
from prfaas.models.state_shares import StateShares
from prfaas.models.state_tensor import StateTensor

LayerDone = Callable[[int], None]
"""Called with a layer's index as soon as that layer's cache holds every token of the batch."""


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """B spans with T new tokens in all, packed one after another; the first `num_decodes` have one token each.

    A sequence may have several spans that are not decodes, each continuing the one before it.
    """

    token_ids: Tensor
    """[T] int64."""
    query_lens: tuple[int, ...]
    """[B] new tokens of each span, at least 1."""
    context_lens: tuple[int, ...]
    """[B] tokens before each span, whose cache is written or will be by an earlier span; 0: there is no state yet."""
    block_table: Tensor
    """[B, max_pages] int64 page ids; entries past a span's last page are never read."""
    state_from: Tensor
    """[B, state_pages] int64: the pages that hold each span's linear states before it; not read at a context of 0."""
    state_to: Tensor
    """[B, state_pages] int64: the pages that they are written to. May be the same tensor."""
    continues: tuple[bool, ...]
    """[B] whether a span goes on where the one before it ends."""
    num_decodes: int
    """Leading sequences that continue by one token and are computed together; their `context_lens` are at least 1."""
    logit_rows: Tensor
    """[S] int64 positions in the packed tokens whose logits are wanted."""

    def to(self, device: torch.device) -> "ForwardBatch":
        """The same where a model computes."""
        if self.token_ids.device == device:
            return self
        state_to = self.state_to.to(device)
        return replace(
            self,
            token_ids=self.token_ids.to(device),
            block_table=self.block_table.to(device),
            state_from=state_to if self.state_from is self.state_to else self.state_from.to(device),
            state_to=state_to,
            logit_rows=self.logit_rows.to(device),
        )


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """What one layer caches, in the order of `LayerCache.tensors`; one of the two is empty."""

    pages: tuple[Tensor, ...] = ()
    """[num_pages, page_tokens, *dims] each, with a whole page from one page to the next."""
    states: tuple[StateTensor, ...] = ()


@dataclass(frozen=True)
class CacheTensors:
    """The memory behind a `ModelShape`."""

    page_tokens: int
    layers: tuple[LayerTensors, ...]
    rows: RowTable

    @property
    def device(self) -> torch.device:
        """Where the pages are, and the model computes."""
        return self.rows.pages.device

    def copy_states(self, read: Tensor, written: Tensor) -> None:
        """Copies all states of some sequences from the rows at offsets `read` to those at `written`, [n, R] each."""
        if self._states:
            self._shares.copy(self._states[0].arena, read, written)

    @cached_property
    def _states(self) -> tuple[StateTensor, ...]:
        return tuple(state for layer in self.layers for state in layer.states)

    @cached_property
    def _shares(self) -> StateShares:
        return StateShares.of(self._states, self.device)
