import pytest
import torch

from prfaas.core.decoder_spec import Rotary
from prfaas.models.batch import ForwardBatch
from prfaas.models.batch_index import index_batch
from prfaas.models.row_table import RowTable

STATES = torch.tensor([[7, 5], [1, 2], [9, 3], [4, 8]])
ROWS = RowTable(torch.tensor([0, 0, 1]), torch.tensor([0, 64, 128]), page_bytes=1000)


def batch(
    query_lens: tuple[int, ...],
    context_lens: tuple[int, ...],
    num_decodes: int,
    states_from: list[list[int]] | None = None,
    continues: tuple[bool, ...] | None = None,
) -> ForwardBatch:
    sequences = len(query_lens)
    return ForwardBatch(
        token_ids=torch.zeros(sum(query_lens), dtype=torch.int64),
        query_lens=query_lens,
        context_lens=context_lens,
        block_table=torch.arange(sequences * 5).view(sequences, 5) * 10,
        state_from=STATES[:sequences] if states_from is None else torch.tensor(states_from),
        state_to=STATES[:sequences],
        continues=continues or (False,) * sequences,
        num_decodes=num_decodes,
        logit_rows=torch.zeros(0, dtype=torch.int64),
    )


def test_places_every_token_of_a_mixed_batch() -> None:
    index = index_batch(batch((1, 1, 3, 1), (7, 2, 3, 0), num_decodes=2), 4, ROWS, frequencies={})
    assert index.token_pages.tolist() == [10, 50, 100, 110, 110, 150]
    assert index.token_offsets.tolist() == [3, 2, 3, 0, 1, 0]
    assert index.decode_lengths.tolist() == [8, 3]
    assert index.decode_pages.tolist() == [[0, 10], [50, 60]]
    assert (index.spans.rows, index.spans.context_lens) == (((2, 5), (5, 6)), (3, 0))
    assert [x.tolist() for x in (index.spans.starts, index.spans.stops, index.spans.contexts)] == [
        [2, 5],
        [5, 6],
        [3, 0],
    ]
    assert index.span_pages.tolist() == [[100, 110], [150, 160]]


def test_places_every_row_of_the_states() -> None:
    index = index_batch(batch((1, 1, 3, 1), (7, 2, 3, 0), num_decodes=2), 4, ROWS, frequencies={})
    assert index.decode_rows.tolist() == [[7000, 7064, 5128], [1000, 1064, 2128]]
    assert index.moves is None
    (one,) = index.rounds
    assert one.spans is index.spans
    assert one.read.tolist() == one.written.tolist() == [[9000, 9064, 3128], [4000, 4064, 8128]]


def test_spans_that_continue_others_wait_for_a_later_round() -> None:
    spans = batch((1, 2, 3, 4), (6, 0, 2, 0), num_decodes=1, continues=(False, False, True, False))
    index = index_batch(spans, 4, ROWS, frequencies={})
    first, second = index.rounds
    assert (first.spans.rows, first.spans.context_lens) == (((1, 3), (6, 10)), (0, 0))
    assert (second.spans.rows, second.spans.context_lens) == (((3, 6),), (2,))
    assert first.written.tolist() == [[1000, 1064, 2128], [4000, 4064, 8128]]
    assert second.read.tolist() == [[9000, 9064, 3128]]


@pytest.mark.parametrize("num_decodes", [3, 2])
def test_states_that_are_not_where_they_will_be(num_decodes: int) -> None:
    somewhere = batch((1, 1, 1), (7, 2, 3), num_decodes, states_from=[[7, 5], [6, 0], [9, 2]])
    index = index_batch(somewhere, 4, ROWS, frequencies={})
    assert index.moves is not None
    read, written = (rows.tolist() for rows in index.moves)
    assert read == [[6000, 6064, 128], [9000, 9064, 2128]][: num_decodes - 1]
    assert written == [[1000, 1064, 2128], [9000, 9064, 3128]][: num_decodes - 1]
    assert index.decode_rows.tolist() == [
        [7000, 7064, 5128],
        *[[1000, 1064, 2128], [9000, 9064, 3128]][: num_decodes - 1],
    ]
    for one in index.rounds:
        assert (one.read.tolist(), one.written.tolist()) == ([[9000, 9064, 2128]], [[9000, 9064, 3128]])
    assert len(index.rounds) == 3 - num_decodes


def test_decodes_only() -> None:
    index = index_batch(batch((1, 1), (4, 3), num_decodes=2), 4, ROWS, frequencies={})
    assert index.token_pages.tolist() == [10, 50]
    assert index.token_offsets.tolist() == [0, 3]
    assert index.rounds == ()
    assert len(index.spans) == 0


@pytest.mark.parametrize(("lens", "contexts", "decodes"), [((2,), (3,), 1), ((1,), (0,), 1)])
def test_a_decode_is_one_token_after_others(lens: tuple[int, ...], contexts: tuple[int, ...], decodes: int) -> None:
    with pytest.raises(AssertionError):
        index_batch(batch(lens, contexts, decodes), 4, ROWS, frequencies={})


def test_angles_are_those_of_every_token_s_position() -> None:
    rotary = Rotary(4, 100.0)
    inverse = torch.tensor([1.0, 0.1])
    cos, sin = index_batch(batch((1, 2), (7, 3), 1), 4, ROWS, frequencies={rotary: inverse}).angles[rotary]
    angles = torch.tensor([[7.0, 0.7], [3.0, 0.3], [4.0, 0.4]])
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())
