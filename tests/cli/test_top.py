"""`prfaas top`: the events of a router as text, and plain words where there is none."""

from dataclasses import replace

import msgspec
import pytest
from rich.console import Console, ConsoleDimensions
from typer.testing import CliRunner

from prfaas.cli.fleet_stream import Seen, events, seen
from prfaas.cli.main import app
from prfaas.cli.top_text import plain, spark
from prfaas.cli.top_view import view
from prfaas.gateway.fleet_changes import FleetStart, change_of
from prfaas.gateway.fleet_history import KEPT
from tests.gateway.fleet_samples import INSTANCE, PLACEMENT, fleet, sample

SEEN = Seen(fleet(), (sample(1e9),))


def shown(what: Seen, width: int = 140, trouble: str = "") -> str:
    console = Console(width=width, height=40, color_system=None)
    with console.capture() as said:
        console.print(view(what, ConsoleDimensions(width, 40), trouble))
    return said.get()


def lines(*told: tuple[str, msgspec.Struct]) -> list[bytes]:
    text = b"retry: 2000\n\n" + b"".join(
        b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(content)) for name, content in told
    )
    return text.splitlines(keepends=True)


def test_events_become_the_fleet_as_it_is_now() -> None:
    later = fleet(unix_s=1e9 + 1, threshold_tokens=250, latest=sample(1e9 + 1))
    told = lines(("start", FleetStart(fleet(), [sample(1e9)])), ("change", change_of(fleet(), later)))
    first, second = seen(events(told))
    assert (first.fleet, first.history) == (fleet(), (sample(1e9),))
    assert second.fleet == later
    assert [one.unix_s for one in second.history] == [1e9, 1e9 + 1]


def test_the_history_is_bounded_and_changes_before_a_start_are_nothing() -> None:
    change = change_of(fleet(), fleet(threshold_tokens=1))
    assert list(seen(events(lines(("change", change))))) == []
    start = FleetStart(fleet(), [sample(float(i)) for i in range(KEPT)])
    *_, last = seen(events(lines(("start", start), *[("change", change)] * 5)))
    assert len(last.history) == KEPT


@pytest.mark.parametrize("width", [70, 80, 120, 200])
def test_every_part_is_there_and_no_line_is_too_long(width: int) -> None:
    text = shown(SEEN, width)
    for part in ("prfaas", "live", "p-0", "far → home", "threshold 100", "no loops", "cmpl-1", "2 refused"):
        assert part in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= width


def test_trouble_takes_the_place_of_live() -> None:
    text = shown(SEEN, trouble="connection lost; trying again")
    assert "connection lost" in text
    assert "live" not in text.splitlines()[0]


def test_states_are_told_apart() -> None:
    def state(**fields: object) -> str:
        one = msgspec.structs.replace(INSTANCE, **fields)
        return shown(replace(SEEN, fleet=fleet(instances=[one])))

    assert "stale 12 s" in state(state="stale", age_s=12.0)
    assert "prefill → decode" in state(state="draining", converting_to="decode")
    assert "converting" in state(state="draining", converting_to="decode")


def test_what_would_move_the_cursor_is_not_written() -> None:
    evil = msgspec.structs.replace(PLACEMENT, reason="a\x1b[2Jb\r\nc[bold]d[/bold]")
    text = shown(replace(SEEN, fleet=fleet(placements=[evil], model="m\x07")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]d" in text  # brackets are text, not markup
    assert plain("a\x9bb\u202e") == "a�b�"


def test_a_spark_has_its_width_and_the_latest_at_the_right() -> None:
    assert spark([0.0, 0.5, 1.0], 1.0, 10) == "▁▄█"
    assert spark([None, 1.0], 1.0, 10) == " █"
    assert spark([], 1.0, 10) == ""
    long = spark([0.0] * 599 + [1.0], 1.0, 30)
    assert len(long) == 30
    assert long[-1] == "█"


def test_a_router_that_is_away_is_named_with_what_to_do() -> None:
    result = CliRunner().invoke(app, ["top", "--url", "127.0.0.1:1", "--once"])
    assert result.exit_code == 2
    assert "127.0.0.1:1/fleet/events" in result.output
    assert "--url" in result.output
