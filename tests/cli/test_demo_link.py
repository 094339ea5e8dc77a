"""The demo's second act: what it sends, which link it slows, and what it tells of it."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from prfaas.cli.demo_client import Ask, Result
from prfaas.cli.demo_link import LinkAct, Phase, slowed_link
from prfaas.cli.demo_prompts import SIZES, mixed_asks
from prfaas.cli.demo_report import link_table
from prfaas.config.load import load
from prfaas.config.sections import LinkSection

DEMO_FILE = Path(__file__).parents[2] / "configs" / "demo.yaml"


def result(label: str, tokens: int, cluster: str) -> Result:
    account = {"prefill": {"cluster": cluster}, "usage": {"prompt_tokens": tokens}}
    return Result(Ask(label, "", 4), "", account)


def shown(held: str) -> str:
    before = Phase(1.0, 1417, "best for 1 Gbit/s", (result("long", 1830, "east"), result("long", 1700, "east")))
    after = Phase(0.01, 1683, "best for 0.0089 Gbit/s", (result("long", 1800, "west"), result("long", 1700, "east")))
    out = StringIO()
    Console(file=out, width=80).print(link_table(LinkAct("east--west", before, after, held)))
    return out.getvalue()


def test_every_round_has_each_size_twice_in_other_lengths_and_shares_nothing() -> None:
    rounds = [mixed_asks(number) for number in range(20)]
    for asks in rounds:
        assert sorted(ask.label for ask in asks) == sorted(SIZES * 2)
        by_size = [max(len(ask.content) for ask in asks if ask.label == size) for size in SIZES]
        assert by_size == sorted(by_size)
    every = [ask for asks in rounds for ask in asks]
    assert len({ask.salt for ask in every}) == len(every)
    assert len({len(ask.content) for ask in every}) > len(every) / 2


def test_the_relayed_link_is_slowed_unless_the_threshold_is_fixed() -> None:
    link = slowed_link(load(DEMO_FILE))
    assert isinstance(link, LinkSection)
    assert link.name == "east--west"
    for fixed in ("policy.name=static_threshold", "loops.retune=false"):
        assert slowed_link(load(DEMO_FILE, [fixed])) == "the fleet file fixes the threshold"
    assert "shapes" in str(slowed_link(load(DEMO_FILE, ["links.0.relay=null"])))


def test_the_table_tells_where_prompts_went_and_why() -> None:
    text = shown(held="")
    assert "2 east" in text
    assert "1 west, 1 east" in text
    assert "before: best for 1 Gbit/s" in text
    assert "did not follow" not in text


def test_a_threshold_that_did_not_follow_is_told() -> None:
    assert "did not follow: no [east]" in shown(held="no [east]")
