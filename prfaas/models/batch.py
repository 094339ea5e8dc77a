"""What a model's forward pass is given: packed tokens, and where each sequence's cache lies."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

LayerDone = Callable[[int], None]
"""Called with a layer's index as soon as that layer's cache holds every token of the batch."""


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """B sequences with T new tokens in all, packed one after another; the first `num_decodes` have one token each."""

    token_ids: Tensor
    """[T] int64."""
    query_lens: tuple[int, ...]
    """[B] new tokens of each sequence, at least 1."""
    context_lens: tuple[int, ...]
    """[B] tokens of each sequence whose cache is already written; 0 means that its state slot holds garbage."""
    block_table: Tensor
    """[B, max_pages] int64 page ids; entries past a sequence's last page are 0 and are never read."""
    state_slots: Tensor
    """[B] int64: the slot of each sequence in every state tensor."""
    num_decodes: int
    """Leading sequences that continue by one token and are computed together; their `context_lens` are at least 1."""
    logit_rows: Tensor
    """[S] int64 positions in the packed tokens whose logits are wanted."""


@dataclass(frozen=True, slots=True)
class CacheTensors:
    """The memory behind a `ModelShape`: for each layer its tensors, in the order of `LayerCache.tensors`."""

    page_tokens: int
    layers: tuple[tuple[Tensor, ...], ...]
    """Paged layers: [num_pages, page_tokens, *dims]. State layers: [num_slots, *dims]."""
