"""The demo's prompts: real text, short enough for the local cluster and long enough for the other one."""

from prfaas.cli.demo_client import Ask
from prfaas.models.demo_text import demo_text

MAX_TOKENS = 32
FEW_TOKENS = 4
"""Where only the prefill matters."""
SIZES = ("short", "middle", "long")
GOLDEN = (5**0.5 - 1) / 2


def sections() -> list[tuple[str, str]]:
    """(title, text) of each section of the demo text."""
    parts = [part.strip() for part in demo_text().split("\n# ")]
    return [(title.lstrip("# ").strip(), body.strip()) for title, _, body in (p.partition("\n") for p in parts)]


def next_turn(ask: Ask, answer: str) -> Ask:
    """What a chat asks next: the whole conversation, and a few words more."""
    before = (*ask.before, ("user", ask.content), ("assistant", answer))
    return Ask("The next turn", "And what came of it?", MAX_TOKENS, before=before)


def demo_asks() -> list[Ask]:
    """A long prompt first (it is streamed to the terminal), then short and long ones in turn."""
    text = sections()
    everything = "\n\n".join(f"{title}\n{body}" for title, body in text)
    # The same chapters in another order: as long, and no prefix in common.
    backwards = "\n\n".join(f"{title}\n{body}" for title, body in reversed(text))
    short = [Ask(title, f"{body}\n\nWhat is this about?", MAX_TOKENS) for title, body in text[:4]]
    return [
        Ask("The whole history", f"{everything}\n\nWhat do all of these have in common?", MAX_TOKENS),
        short[0],
        Ask("Read backwards", f"{backwards}\n\nWhich came first?", MAX_TOKENS),
        short[1],
        Ask("Read twice", f"{everything}\n\n{backwards}\n\nWhat has changed?", MAX_TOKENS),
        short[2],
        short[3],
    ]


def mixed_asks(number: int) -> list[Ask]:
    """Two prompts of each of three sizes, cut from the text; lengths differ from round to round, and nothing is shared.

    `number`: of the round, from 0.
    """
    words = demo_text().split(" ")
    return [
        Ask(
            size, " ".join(words[: _cut(len(words), third, number, time)]), FEW_TOKENS, salt=f"{number}, {size}, {time}"
        )
        for time in range(2)
        for third, size in enumerate(SIZES)
    ]


def _cut(words: int, third: int, number: int, time: int) -> int:
    """Of so many words; the third that it ends in is filled evenly, whatever the number of rounds."""
    within = (2 * number + time + 1) * GOLDEN % 1
    return max(1, round(words * (third + within) / len(SIZES)))
