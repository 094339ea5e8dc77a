"""A model whose cache can be checked: pages hold the tokens themselves, states a digest of all tokens before.

What it draws next is a function of that digest, so a page that was given to two requests, or a state that was taken
from the wrong place, gives other tokens, or faults that are noted. Knows neither requests nor who owns a page.
"""

import struct
import zlib
from collections.abc import Callable, Iterable
from random import Random

import torch
from torch import Tensor

from prfaas.models.batch import CacheTensors, ForwardBatch
from tests.wire.small import SHAPE

PAGE, PAGE_BYTES, VOCAB = 4, 16, 64
BAD = 0xFFFF
"""Stands for something that is not finite, in pages and in states."""


def digest(tokens: Iterable[int], before: int = 1) -> int:
    """16 bits, BAD from the first BAD on."""
    for token in tokens:
        if BAD in (token, before):
            return BAD
        before = zlib.crc32(struct.pack("<I", token), before) % BAD
    return before


def answer(prompt: tuple[int, ...], length: int) -> list[int]:
    """What the model says when nothing goes wrong."""
    drawn: list[int] = []
    for _ in range(length):
        drawn.append(digest((*prompt, *drawn)) % VOCAB)
    return drawn


class CheckedMemory:
    """Pages as bytes, and a forward pass over them."""

    def __init__(self, pages: int, random: Random, *, bad: float, raises: float) -> None:
        """`bad` of all chunks compute what is not finite, `raises` of all steps raise."""
        self._bytes = memoryview(bytearray(pages * PAGE_BYTES))
        self._random = random
        self._bad, self._raises = bad, raises
        self.faults: list[str] = []

    def page(self, number: int) -> memoryview:
        return self._bytes[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]

    def tokens(self, pages: list[int], length: int) -> tuple[int, ...]:
        """The first tokens of a request."""
        return tuple(struct.unpack_from("<I", self.page(pages[i // PAGE]), i % PAGE * 4)[0] for i in range(length))

    def write(self, pages: list[int], start: int, tokens: Iterable[int]) -> None:
        for i, token in enumerate(tokens, start):
            struct.pack_into("<I", self.page(pages[i // PAGE]), i % PAGE * 4, token)

    def state(self, pages: list[int]) -> tuple[int, int] | None:
        """Digest and number of tokens; None where the pages do not belong together."""
        parts = [struct.unpack_from("<III", self.page(page)) for page in pages]
        return parts[0][1:] if {(i, *parts[0][1:]) for i in range(len(pages))} == set(parts) else None

    def write_state(self, pages: list[int], tokens: tuple[int, ...]) -> None:
        for number, page in enumerate(pages):
            struct.pack_into("<III", self.page(page), 0, number, digest(tokens), len(tokens))

    def forward(self, batch: ForwardBatch, _: CacheTensors, on_layer: Callable[[int], None] | None) -> Tensor:
        """Reads all that a chunk builds on, and writes what it adds."""
        if self._random.random() < self._raises:
            raise RuntimeError("out of memory")
        for layer in range(len(SHAPE.layers)):
            if on_layer:
                on_layer(layer)
        drawn, at = {}, 0
        for i, length in enumerate(batch.query_lens):
            drawn[at + length - 1] = self._chunk(batch, i, batch.token_ids[at : at + length].tolist())
            at += length
        logits = torch.zeros(len(batch.logit_rows), VOCAB)
        for row, place in enumerate(batch.logit_rows.tolist()):
            found = drawn[place]
            logits[row, found % VOCAB] = float("nan") if found == BAD else 1.0
        return logits

    def _chunk(self, batch: ForwardBatch, row: int, tokens: list[int]) -> int:
        pages, start = batch.block_table[row].tolist(), batch.context_lens[row]
        state_from, state_to = batch.state_from[row].tolist(), batch.state_to[row].tolist()
        before = self.tokens(pages, start)
        if state_to and start:
            found = self.state(state_from)
            if found != (digest(before), start) and found != (BAD, start) and BAD not in before:
                self.faults.append(f"pages {pages} end after {before}, states {state_from} do not")
        if self._random.random() < self._bad:
            tokens = [BAD] * len(tokens)
        self.write(pages, start, tokens)
        if state_to:
            self.write_state(state_to, (*before, *tokens))
        return digest((*before, *tokens))
