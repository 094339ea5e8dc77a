"""States in rows that lie anywhere in memory full of NaN."""

import torch
from torch import Tensor

from prfaas_kernels.state_rows import StateRows

POISON = 0xFF
"""Four of it are a NaN in fp32, and two in bf16."""
_SPARE_ROWS = 3


def scattered_rows(states: Tensor, elsewhere: bool = False) -> StateRows:
    """`states` [S, n, *dims] written to rows in random order; results go to the same rows, or `elsewhere`."""
    sequences, rows = states.shape[:2]
    width = states[0, 0].numel()
    stride = -(-width * states.element_size() // 64) * 64
    count = 2 * sequences * rows + _SPARE_ROWS
    arena = torch.full((count * stride,), POISON, dtype=torch.uint8, device=states.device)
    places = (torch.randperm(count, device=states.device) * stride)[: 2 * sequences * rows]
    read, other = places.view(2, sequences, rows)
    at = StateRows(arena, read, read, ((0, width),), tuple(states.shape[2:]), states.dtype)
    at.store_all(states)
    return StateRows(arena, read, other if elsewhere else read, at.parts, at.dims, at.dtype)
