"""One request's rows in the cache's pages: as views, and as the addresses that compiled codecs take."""

from array import array
from collections.abc import Sequence

from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.memory import CacheMemory
from prfaas.wire.header import ObjectKey
from prfaas_kernels.bytes_codec import StatePlaces, TokenPlaces, address_of


class RequestRows:
    """Of a request that holds `pages` and `state_pages` of `memory`, for as long as it does."""

    def __init__(
        self, shape: ModelShape, memory: CacheMemory, pages: Sequence[int], state_pages: Sequence[int]
    ) -> None:
        self._shape = shape
        self._memory = memory
        self._pages = pages
        self._state_pages = state_pages

    def cache(self, key: ObjectKey) -> LayerCache:
        """What the object's layer keeps."""
        return self._shape.layers[key.layer]

    def tensor(self, key: ObjectKey) -> CacheTensor:
        """What the object's rows are part of."""
        return self.cache(key).tensors[key.tensor]

    def row_bytes(self, key: ObjectKey) -> int:
        """Of one row, as it is."""
        return self.cache(key).row_bytes(key.tensor)

    def spans(self, key: ObjectKey) -> list[memoryview]:
        """The object's bytes where they lie, in canonical order."""
        return self._memory.spans(key.layer, key.tensor, key.start, key.end, self._pages, self._state_pages)

    def places(self, key: ObjectKey) -> TokenPlaces:
        """The same of values that are bf16 or fp32."""
        bf16 = self.tensor(key).dtype == "bfloat16"
        value_bytes = 2 if bf16 else 4
        channels = self.row_bytes(key) // value_bytes
        base = address_of(self._memory.memory)
        if not self.cache(key).paged:
            offsets = [at // value_bytes for at in self._row_offsets(key)]
            return TokenPlaces.scattered(base, offsets, channels, bf16=bf16)
        page_tokens = self._memory.page_tokens
        first_page, last_page = key.start // page_tokens, -(-key.end // page_tokens)
        return TokenPlaces(
            address=base + self._memory.tensor_offset(key.layer, key.tensor),
            tokens=key.end - key.start,
            channels=channels,
            bf16=bf16,
            first=key.start % page_tokens,
            page_tokens=page_tokens,
            page_stride=self._memory.page_bytes // value_bytes,
            page_ids=array("q", self._pages[first_page:last_page]),
        )

    def state_places(self, key: ObjectKey) -> StatePlaces:
        """The same of a linear state's rows."""
        base = address_of(self._memory.memory)
        return StatePlaces(base, array("q", self._row_offsets(key)), self.row_bytes(key) // 4)

    def _row_offsets(self, key: ObjectKey) -> list[int]:
        return self._memory.row_offsets(key.layer, key.tensor, key.start, key.end, self._state_pages)
