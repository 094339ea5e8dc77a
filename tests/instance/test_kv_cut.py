"""Objects cover their rows, fit frames, and part no group of rows that share a scale."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.instance.kv_cut import TOGETHER_ROWS, cut

SIZES = st.integers(1, 5000)


@given(start=st.integers(0, 1000), rows=st.integers(-5, 5000), row_bytes=SIZES, frame_bytes=st.integers(1, 1 << 20))
def test_pieces_cover_the_rows_and_fit(start: int, rows: int, row_bytes: int, frame_bytes: int) -> None:
    pieces = list(cut(start, start + rows, row_bytes, frame_bytes))
    assert [row for first, end in pieces for row in range(first, end)] == list(range(start, start + rows))
    most = max(1, frame_bytes // row_bytes)
    assert all(0 < end - first <= most for first, end in pieces)
    if most >= TOGETHER_ROWS:
        assert all((end - first) % TOGETHER_ROWS == 0 for first, end in pieces[:-1])


@given(rows=st.integers(1, 5000), row_bytes=SIZES)
def test_no_more_pieces_than_frames_of_whole_groups_take(rows: int, row_bytes: int) -> None:
    frame_bytes = 100 * TOGETHER_ROWS * row_bytes + row_bytes - 1
    assert len(list(cut(0, rows, row_bytes, frame_bytes))) == -(-rows // (100 * TOGETHER_ROWS))
