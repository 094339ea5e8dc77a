"""A model's cache as tensors, in memory of its own or in a block that others map too."""

import torch

from prfaas.cache.layout import CacheLayout, Region
from prfaas.core.shape import CacheTensor, DType, LayerCache, ModelShape
from prfaas.models.batch import CacheTensors

TORCH_DTYPES: dict[DType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def allocate_cache(shape: ModelShape, num_pages: int, num_slots: int, page_tokens: int) -> CacheTensors:
    """Uninitialised tensors for `num_pages` pages per paged layer and `num_slots` requests per state layer."""

    def allocate(layer: LayerCache) -> tuple[torch.Tensor, ...]:
        leading = (num_pages, page_tokens) if layer.paged else (num_slots,)
        return tuple(torch.empty(*leading, *t.dims, dtype=TORCH_DTYPES[t.dtype]) for t in layer.tensors)

    return CacheTensors(page_tokens, tuple(allocate(layer) for layer in shape.layers))


def map_cache(shape: ModelShape, layout: CacheLayout, memory: memoryview) -> CacheTensors:
    """Tensors that lie in `memory` where `layout` says; they keep it alive."""

    def view(layer: LayerCache, tensor: CacheTensor, region: Region) -> torch.Tensor:
        leading = (region.places, layout.page_tokens) if layer.paged else (region.places,)
        flat = torch.frombuffer(memory[region.offset : region.end], dtype=TORCH_DTYPES[tensor.dtype])
        return flat.view(*leading, *tensor.dims)

    return CacheTensors(
        layout.page_tokens,
        tuple(
            tuple(view(layer, tensor, region) for tensor, region in zip(layer.tensors, regions, strict=True))
            for layer, regions in zip(shape.layers, layout.layers, strict=True)
        ),
    )
