"""Labels of logarithmic axes."""

from prfaas.planner.log_axis import log_axis, log_axis_of


def test_a_narrow_axis_has_three_labels_in_a_decade() -> None:
    assert log_axis(2_000, 20_000)["ticktext"] == ["1K", "2K", "5K", "10K", "20K"]


def test_a_wide_axis_has_one() -> None:
    assert log_axis(0.1, 2_000)["ticktext"] == ["0.1", "1", "10", "100", "1K"]


def test_what_cannot_be_drawn_does_not_count() -> None:
    assert log_axis_of([None, 0.0, 20.0, 50.0])["ticktext"] == ["10", "20", "50", "100"]
    assert log_axis_of([None]) == {"type": "log"}
