"""A model's cache as tensors over one block of pages, in memory of its own or in a block that others map too."""

from math import prod

import torch
from torch import Tensor

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.core.shape import DType, ModelShape
from prfaas.models.batch import CacheTensors, LayerTensors
from prfaas.models.row_table import RowTable
from prfaas.models.state_tensor import StateTensor

TORCH_DTYPES: dict[DType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def allocate_cache(
    shape: ModelShape, num_pages: int, page_tokens: int, device: torch.device | str = "cpu"
) -> CacheTensors:
    """`num_pages` uninitialised pages on `device`."""
    layout = lay_out(shape, page_tokens)
    return lay_over(shape, layout, torch.empty(layout.num_bytes(num_pages), dtype=torch.uint8, device=device))


def map_cache(shape: ModelShape, layout: PageLayout, memory: memoryview) -> CacheTensors:
    """Tensors over the pages in `memory`, of which there are as many as it has room for; they keep it alive."""
    return lay_over(shape, layout, torch.frombuffer(memory, dtype=torch.uint8))


def lay_over(shape: ModelShape, layout: PageLayout, arena: Tensor) -> CacheTensors:
    """Tensors over the pages in `arena` [bytes] uint8, wherever it is."""
    pages = arena.view(-1, layout.page_bytes)
    layers, column = [], 0
    for layer, offsets in zip(shape.layers, layout.offsets, strict=True):
        found, states = [], []
        for i, tensor in enumerate(layer.tensors):
            if layer.paged:
                stop = offsets[i] + layout.page_tokens * tensor.num_bytes
                entries = pages[:, offsets[i] : stop].view(TORCH_DTYPES[tensor.dtype])
                found.append(torch.unflatten(entries, 1, (layout.page_tokens, *tensor.dims)))
            else:
                rows, *dims = tensor.dims
                whole = ((0, prod(dims)),)
                columns = (column, column + rows)
                states.append(StateTensor(arena, columns, tuple(dims), TORCH_DTYPES[tensor.dtype], whole))
                column += rows
        layers.append(LayerTensors(tuple(found), tuple(states)))
    return CacheTensors(layout.page_tokens, tuple(layers), RowTable.of(layout, arena.device))
