"""Memory for a model's cache when nobody else provides it."""

import torch

from prfaas.core.shape import DType, LayerCache, ModelShape
from prfaas.models.batch import CacheTensors

TORCH_DTYPES: dict[DType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def allocate_cache(shape: ModelShape, num_pages: int, num_slots: int, page_tokens: int) -> CacheTensors:
    """Uninitialised tensors for `num_pages` pages per paged layer and `num_slots` requests per state layer."""

    def allocate(layer: LayerCache) -> tuple[torch.Tensor, ...]:
        leading = (num_pages, page_tokens) if layer.paged else (num_slots,)
        return tuple(torch.empty(*leading, *t.dims, dtype=TORCH_DTYPES[t.dtype]) for t in layer.tensors)

    return CacheTensors(page_tokens, tuple(allocate(layer) for layer in shape.layers))
