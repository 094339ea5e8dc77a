"""One long prompt's cache, as an instance that serves Kimi-Linear-48B-A3B in bf16 holds it."""

from random import Random

from prfaas.cache.layout import lay_out
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.arena import Arena
from prfaas.engine.memory import CacheMemory
from prfaas.wire.header import payload_digest

PROMPT_TOKENS = 32_768
PAGE_TOKENS = 64
NUM_LAYERS = 27
FULL_ATTENTION = frozenset({3, 7, 11, 15, 19, 23, 26})
SLOT = 0
_RANDOM_BYTES = 1 << 20

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
        self._layout = lay_out(SHAPE, num_pages, 1, PAGE_TOKENS)
        arena = Arena.create(self._layout.num_bytes)
        arena.close()
        self._bytes = arena.memory
        self.memory = CacheMemory(SHAPE, self._layout, self._bytes)
        random = Random(seed)
        self.pages = tuple(random.sample(range(num_pages), num_pages))
        # Written once before anything is timed: the kernel hands out fresh memory at 2 GB/s.
        for at in range(0, self._bytes.nbytes, _RANDOM_BYTES):
            size = min(_RANDOM_BYTES, self._bytes.nbytes - at)
            self._bytes[at : at + size] = random.randbytes(size)

    def pieces(self, piece_bytes: int) -> list[memoryview]:
        """All of it in the order of its addresses, cut evenly: what a peer without pages sends."""
        flat = [self._bytes[region.offset : region.end] for layer in self._layout.layers for region in layer]
        return [view[at : at + piece_bytes] for view in flat for at in range(0, view.nbytes, piece_bytes)]

    def digest(self) -> int:
        """Of all bytes in canonical order; equal on both ends after a transfer."""
        return payload_digest(
            span
            for i, layer in enumerate(SHAPE.layers)
            for j in range(len(layer.tensors))
            for span in self.memory.spans(i, j, 0, layer.num_rows(j, PROMPT_TOKENS), self.pages, SLOT)
        )
