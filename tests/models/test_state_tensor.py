"""A state tensor of several sequences whose rows are scattered: whole, a rank's rows, a rank's part of each row."""

import torch
from torch import Tensor

from prfaas.models.state_tensor import StateTensor

ROWS, DIMS = 5, (4, 6)
COLUMNS = (2, 2 + ROWS)
ALL_ROWS = 9
BATCH = 3
POISON = 0xFF


def tensor() -> tuple[StateTensor, Tensor]:
    """Poisoned memory, and a table [B, all rows] of where rows of 96 bytes are."""
    table = torch.randperm(BATCH * ALL_ROWS).view(BATCH, ALL_ROWS) * 128
    arena = torch.full((BATCH * ALL_ROWS * 128,), POISON, dtype=torch.uint8)
    return StateTensor(arena, COLUMNS, DIMS, torch.float32, ((0, 24),)), table


def read(state: StateTensor, table: Tensor) -> Tensor:
    return state.rows(table, table).load_all()


def write(state: StateTensor, table: Tensor, value: Tensor) -> None:
    state.rows(table, table).store_all(value)


def written() -> tuple[StateTensor, Tensor, Tensor]:
    state, table = tensor()
    value = torch.randn(BATCH, ROWS, *DIMS)
    write(state, table, value)
    return state, table, value


def test_what_is_written_is_read_of_all_sequences_or_one() -> None:
    state, table, value = written()
    assert torch.equal(read(state, table), value)
    assert torch.equal(state.rows(table, table).load(1, context=7), value[1])
    assert (state.arena != POISON).sum() <= value.numel() * 4
    other = StateTensor(state.arena, (0, 2), DIMS, torch.float32, ((0, 24),))
    assert read(other, table).isnan().all(), "other columns are other tensors'"


def test_nothing_before_the_first_token_is_zeros() -> None:
    state, table, _ = written()
    assert torch.equal(state.rows(table, table).load(1, context=0), torch.zeros(ROWS, *DIMS))


def test_reading_is_a_copy() -> None:
    state, table, value = written()
    read(state, table).zero_()
    assert torch.equal(read(state, table), value)


def test_one_row_of_each_sequence() -> None:
    state, table, value = written()
    rows, new = torch.tensor([4, 0, 2]), torch.randn(BATCH, *DIMS)
    state.rows(table, table).store_one(rows, new)
    value[torch.arange(BATCH), rows] = new
    assert torch.equal(read(state, table), value)


def test_some_rows_are_a_rank_s() -> None:
    state, table, value = written()
    mine = state.narrow_rows(1, 3)
    assert torch.equal(mine.at(table), table[:, 3:5])
    assert torch.equal(read(mine, table), value[:, 1:3])
    write(mine, table, torch.zeros(BATCH, 2, *DIMS))
    value[:, 1:3] = 0
    assert torch.equal(read(state, table), value)
    assert mine.rows(table, table).load(0, context=0).shape == (2, *DIMS)


def test_some_elements_of_every_row_are_a_rank_s() -> None:
    state, table, value = written()
    mine = state.narrow_each_row((5,), ((2, 4), (13, 16)))
    flat = value.flatten(2)  # a view
    assert torch.equal(read(mine, table), torch.cat([flat[..., 2:4], flat[..., 13:16]], dim=-1))
    new = torch.randn(BATCH, ROWS, 5)
    write(mine, table, new)
    flat[..., 2:4], flat[..., 13:16] = new[..., :2], new[..., 2:]
    assert torch.equal(read(state, table), value)
    heads = state.narrow_each_row((2, 6), ((6, 18),))
    assert torch.equal(read(heads, table), value[:, :, 1:3])
