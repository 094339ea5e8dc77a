"""Spans on the device say what those on the host say."""

import pytest
import torch

from prfaas_kernels.spans import Spans


def test_packed_spans_are_cumulative_lengths() -> None:
    spans = Spans.packed((3, 0, 5), (7, 0, 64))
    assert spans.rows == ((0, 3), (3, 3), (3, 8))
    assert [x.tolist() for x in (spans.starts, spans.stops, spans.contexts)] == [[0, 3, 3], [3, 3, 8], [7, 0, 64]]
    assert {x.dtype for x in (spans.starts, spans.stops, spans.contexts)} == {torch.int32}
    assert (len(spans), spans.lens, spans.longest, spans.longest_context) == (3, (3, 0, 5), 5, 64)


def test_no_spans() -> None:
    spans = Spans.of((), ())
    assert (len(spans), spans.longest, spans.longest_context) == (0, 0, 0)
    assert spans.starts.shape == spans.stops.shape == spans.contexts.shape == (0,)


def test_some_of_them_keep_their_rows() -> None:
    some = Spans.packed((3, 2, 5), (7, 1, 64)).some([2, 0])
    assert (some.rows, some.context_lens) == (((5, 10), (0, 3)), (64, 7))
    assert some.starts.tolist() == [5, 0]


def test_results_go_where_their_rows_are_and_nowhere_else() -> None:
    spans = Spans.of(((1, 3), (4, 5)), (0, 0))
    out = spans.join([torch.ones(2, 4), torch.full((1, 4), 2.0)], 6)
    assert out[:, 0].isnan().tolist() == [True, False, False, True, False, True]
    assert out[[1, 2, 4], 0].tolist() == [1, 1, 2]
    whole = torch.ones(6, 4)
    assert Spans.packed((6,), (0,)).join([whole], 6) is whole


def test_every_span_has_a_context() -> None:
    with pytest.raises(AssertionError):
        Spans.of(((0, 1),), ())
