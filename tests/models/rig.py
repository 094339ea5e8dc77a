"""Drives a decoder over a cache whose pages are scattered and start as NaN, in every dtype."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.cache.layout import lay_out
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.cache_tensors import lay_over
from prfaas.models.loader import LoadedModel

PAGE_TOKENS = 16
NOBODYS = 3
POISON = 0xFF
"""Four of it are a NaN in fp32, and two in bf16."""


@dataclass(frozen=True)
class Rig:
    """A model with room for some sequences of up to `max_tokens` tokens."""

    model: LoadedModel
    pages: Tensor
    """[num_pages, page_bytes] uint8"""
    cache: CacheTensors
    block_table: Tensor
    """[sequences, pages]"""
    state_pages: Tensor
    """[sequences and then snapshots, pages of a state]"""


@dataclass(frozen=True)
class Part:
    """New tokens of one of a rig's sequences, after `context` cached ones; states are its own unless said otherwise."""

    sequence: int
    ids: list[int]
    context: int = 0
    read: int | None = None
    """Row of `Rig.state_pages`."""
    written: int | None = None


def make_rig(
    model: LoadedModel,
    sequences: int = 1,
    max_tokens: int = 400,
    page_tokens: int = PAGE_TOKENS,
    snapshots: int = 0,
    device: torch.device | str = "cpu",
) -> Rig:
    layout, pages = lay_out(model.shape, page_tokens), -(-max_tokens // page_tokens)
    for_kv, for_states = sequences * pages, (sequences + snapshots) * layout.state_pages
    num_pages = for_kv + for_states + NOBODYS
    block = torch.full((layout.num_bytes(num_pages),), POISON, dtype=torch.uint8, device=device)
    table, states, _ = torch.split(torch.randperm(num_pages), [for_kv, for_states, NOBODYS])
    return Rig(
        model,
        block.view(num_pages, layout.page_bytes),
        lay_over(model.shape, layout, block),
        table.view(sequences, pages),
        states.view(sequences + snapshots, layout.state_pages),
    )


def pack(rig: Rig, parts: list[Part], num_decodes: int = 0) -> ForwardBatch:
    """The parts as one batch that asks for the logits of every token."""
    lens = tuple(len(part.ids) for part in parts)
    rows = torch.tensor([part.sequence for part in parts])
    table = rig.block_table[rows].clone()
    for i, part in enumerate(parts):
        table[i, -(-(part.context + lens[i]) // rig.cache.page_tokens) :] = 0
    return ForwardBatch(
        token_ids=torch.tensor([token for part in parts for token in part.ids]),
        query_lens=lens,
        context_lens=tuple(part.context for part in parts),
        block_table=table,
        state_from=rig.state_pages[[part.sequence if part.read is None else part.read for part in parts]],
        state_to=rig.state_pages[[part.sequence if part.written is None else part.written for part in parts]],
        continues=tuple(i > 0 and part.sequence == parts[i - 1].sequence for i, part in enumerate(parts)),
        num_decodes=num_decodes,
        logit_rows=torch.arange(sum(lens)),
    )


def forward(rig: Rig, parts: list[Part], num_decodes: int = 0, on_layer: LayerDone | None = None) -> list[Tensor]:
    """Logits of every token of every part, [len(ids), vocab] each."""
    batch = pack(rig, parts, num_decodes).to(rig.cache.device)
    logits = rig.model.decoder.forward(batch, rig.cache, on_layer).cpu()
    return list(torch.split(logits, [len(part.ids) for part in parts]))


def in_chunks(rig: Rig, ids: list[int], chunk: int, sequence: int = 0) -> Tensor:
    """Logits [T, vocab] of a prompt prefilled `chunk` tokens at a time."""
    starts = range(0, len(ids), chunk)
    return torch.cat([forward(rig, [Part(sequence, ids[at : at + chunk], at)])[0] for at in starts])


def decode_all(rig: Rig, ids: list[int], sequence: int = 0) -> Tensor:
    """Logits [T, vocab] of a prompt whose first token is prefilled and the others fed as if decoded."""
    first = forward(rig, [Part(sequence, ids[:1])])
    rest = [forward(rig, [Part(sequence, [token], at)], num_decodes=1) for at, token in enumerate(ids[1:], start=1)]
    return torch.cat([part for step in (first, *rest) for part in step])


def greedy(rig: Rig, ids: list[int], steps: int) -> list[int]:
    logits, out = forward(rig, [Part(0, ids)])[0], []
    for step in range(steps):
        out.append(int(logits[-1].argmax()))
        logits = forward(rig, [Part(0, [out[-1]], len(ids) + step)], num_decodes=1)[0]
    return out


def logit_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest logit; infinite if `actual` has a NaN."""
    assert actual.shape == expected.shape
    if not actual.isfinite().all():
        return float("inf")
    return float((actual - expected).abs().max() / expected.abs().max())
