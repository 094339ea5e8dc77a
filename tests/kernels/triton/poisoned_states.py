"""States of sequences in an arena that is otherwise NaN, and memory of which only what is touched is really there."""

from pathlib import Path

import torch
from torch import Tensor

from prfaas_kernels.pages import gather_rows_reference, scatter_rows_reference
from prfaas_kernels.state_rows import StateRows

POISON = 0xFF
"""Four of it are a NaN in fp32, and two in bf16."""


def states_of(
    values: Tensor, dims: tuple[int, ...], *, parts: tuple[tuple[int, int], ...] | None = None, in_place: bool = False
) -> StateRows:
    """Rows `values` [S, n, width] in random places, to be written there or elsewhere."""
    (sequences, num_rows, width), size = values.shape, values.element_size()
    row_bytes = -(-width * size // 64) * 64
    places = torch.randperm(2 * sequences * num_rows + 1)[: 2 * sequences * num_rows] * row_bytes
    read, written = places.to(values.device).view(2, sequences, num_rows)
    memory = torch.full(((2 * sequences * num_rows + 1) * row_bytes,), POISON, dtype=torch.uint8, device=values.device)
    if values.numel():
        scatter_rows_reference(memory, read, values)
    return StateRows(memory, read, read if in_place else written, parts or ((0, width),), dims, values.dtype)


def written_rows(states: StateRows, width: int) -> Tensor:
    """Whole rows [S, n, width] as they are where they were to be written."""
    return gather_rows_reference(states.arena, states.written, width, states.dtype)


def sparse_bytes(num_bytes: int, directory: Path, device: torch.device) -> Tensor:
    """[num_bytes] uint8 zeros: on a CPU a file with holes, of which only what is written takes memory."""
    if device.type == "cuda":
        return torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    path = directory / "arena"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(num_bytes)
    return torch.from_file(str(path), shared=True, size=num_bytes, dtype=torch.uint8)
