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

    def __init__(self, seed: int, tokens: int = PROMPT_TOKENS) -> None:
        self.tokens = tokens
        self.num_bytes = SHAPE.cache_bytes(tokens)
        num_pages = tokens // PAGE_TOKENS
        layout = lay_out(SHAPE, PAGE_TOKENS)
        arena = Arena.create(layout.num_bytes(num_pages + layout.state_pages))
        arena.close()
        self._bytes = arena.memory
        self.memory = CacheMemory(SHAPE, layout, self._bytes)
        random = Random(seed)
        shuffled = tuple(random.sample(range(num_pages + layout.state_pages), num_pages + layout.state_pages))
        self.pages, self.state_pages = shuffled[:num_pages], shuffled[num_pages:]
        # Written once before anything is timed: the kernel hands out fresh memory at 2 GB/s.
        for at in range(0, self._bytes.nbytes, _RANDOM_BYTES):
            size = min(_RANDOM_BYTES, self._bytes.nbytes - at)
            self._bytes[at : at + size] = random.randbytes(size)

    def pieces(self, piece_bytes: int) -> list[memoryview]:
        """As many bytes as the prompt has, cut evenly: what a peer without pages sends."""
        whole = self._bytes[: self.num_bytes]
        return [whole[at : at + piece_bytes] for at in range(0, self.num_bytes, piece_bytes)]

    def dense_digest(self) -> int:
        """Of as many bytes as the prompt has, from the first on; equal on both ends of a peer without pages."""
        return payload_digest([self._bytes[: self.num_bytes]])

    def digest(self) -> int:
        """Of all bytes in canonical order; equal on both ends after a transfer."""
        return payload_digest(
            span
            for i, layer in enumerate(SHAPE.layers)
            for j in range(len(layer.tensors))
            for span in self.memory.spans(i, j, 0, layer.num_rows(j, self.tokens), self.pages, self.state_pages)
        )
