"""One long prompt's cache, as an instance that serves Kimi-Linear-48B-A3B in bf16 holds it."""

from random import Random

import torch

from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.models.cache_tensors import allocate_cache
from prfaas.wire.header import payload_digest

PROMPT_TOKENS = 32_768
PAGE_TOKENS = 64
NUM_LAYERS = 27
FULL_ATTENTION = frozenset({3, 7, 11, 15, 19, 23, 26})
SLOT = 0

_MLA = LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (576,), "bfloat16"),))
_KDA = LayerCache(
    "kda",
    paged=False,
    tensors=(CacheTensor("state", (32, 128, 128), "float32"), CacheTensor("conv", (3, 3 * 32 * 128), "bfloat16")),
)
SHAPE = ModelShape("kimi_linear", tuple(_MLA if i in FULL_ATTENTION else _KDA for i in range(NUM_LAYERS)), 1 << 20)
PROMPT_BYTES = SHAPE.cache_bytes(PROMPT_TOKENS)


class PromptMemory:
    """Page memory that exactly one prompt fills. Pages are handed out in random order, as in a pool that has lived."""

    def __init__(self, seed: int) -> None:
        num_pages = PROMPT_TOKENS // PAGE_TOKENS
        self._tensors = allocate_cache(SHAPE, num_pages, 1, PAGE_TOKENS)
        self.memory = CacheMemory(SHAPE, self._tensors)
        self.pages = tuple(Random(seed).sample(range(num_pages), num_pages))
        # Written once before anything is timed: the kernel hands out fresh memory at 2 GB/s.
        generator = torch.Generator().manual_seed(seed)
        for layer in self._tensors.layers:
            for tensor in layer:
                tensor.view(torch.int16).random_(generator=generator)

    def pieces(self, piece_bytes: int) -> list[memoryview]:
        """All of it in the order of its addresses, cut evenly: what a peer without pages sends."""
        flat = [memoryview(t.view(torch.uint8).flatten().numpy()) for layer in self._tensors.layers for t in layer]  # type: ignore[arg-type]
        return [view[at : at + piece_bytes] for view in flat for at in range(0, view.nbytes, piece_bytes)]

    def digest(self) -> int:
        """Of all bytes in canonical order; equal on both ends after a transfer."""
        return payload_digest(
            span
            for i, layer in enumerate(SHAPE.layers)
            for j in range(len(layer.tensors))
            for span in self.memory.spans(i, j, 0, layer.num_rows(j, PROMPT_TOKENS), self.pages, SLOT)
        )
