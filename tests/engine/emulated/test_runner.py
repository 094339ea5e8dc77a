"""An emulated engine takes the time of its profile, makes its bytes, and notices every byte that is not right."""

import pytest

from prfaas.core.ids import RequestId
from prfaas.core.request import Grammar, GrammarKind
from prfaas.engine.messages import BeginDecode, Event, Failed, Generated, LayerDone, Preempted, Prefilled, Stepped
from prfaas.scheduler.sequence import Mode
from tests.engine.emulated.profiles import PROFILE
from tests.engine.emulated.rig import EOS, LAYOUT, SHAPE, VOCAB, Rig, submit

PROMPT = tuple((i * 31) % VOCAB for i in range(300))


def tokens(events: list[Event]) -> list[int]:
    return [event.token_id for event in events if isinstance(event, Generated)]


def test_a_prompt_takes_what_the_profile_says() -> None:
    rig = Rig()
    events = rig.run(submit("a", PROMPT, max_tokens=1))
    (prefilled,) = [event for event in events if isinstance(event, Prefilled)]
    assert prefilled.prefill_s == pytest.approx(PROFILE.prefill.seconds(300))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert sum(step.seconds for step in steps) == pytest.approx(PROFILE.prefill.seconds(300))
    assert [step.late_s for step in steps] == pytest.approx([0] * len(steps))


def test_an_answer_takes_what_the_profile_says() -> None:
    rig = Rig()
    rig.run(submit("a", PROMPT, max_tokens=20))
    came_s = [at_s for at_s, event in rig.events if isinstance(event, Generated)]
    expected = [PROFILE.decode.step_s(1, 300 + i) for i in range(1, 20)]
    assert came_s[-1] - came_s[0] == pytest.approx(sum(expected))


def test_layers_are_told_while_the_step_goes_on() -> None:
    rig = Rig(step_tokens=512)
    rig.run(submit("a", PROMPT[:64], mode=Mode.EXPORT))
    done = [(at_s, event) for at_s, event in rig.events if isinstance(event, LayerDone)]
    layers = len(SHAPE.layers)
    # A snapshot before the last block cuts the prompt in two, and states are told once.
    assert [event.layer for _, event in done] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    took_s = PROFILE.prefill.seconds(64)
    assert [at_s - 1000 for at_s, _ in done] == pytest.approx([took_s * (e.layer + 1) / layers for _, e in done])


def test_answers_depend_on_the_prompt_alone() -> None:
    alone, beside = Rig(), Rig(step_tokens=17)
    expected = tokens(alone.run(submit("a", PROMPT)))
    both = beside.run(submit("b", PROMPT[::-1]), submit("a", PROMPT))
    assert [e.token_id for e in both if isinstance(e, Generated) and e.request_id == "a"] == expected
    assert tokens(alone.run(submit("c", (*PROMPT[:-1], 3)))) != expected
    assert EOS not in expected
    assert len(set(expected)) > 5


def test_a_cached_prefix_is_gone_on_from() -> None:
    rig = Rig()
    expected = tokens(Rig().run(submit("b", (*PROMPT, 1, 2, 3))))
    rig.run(submit("a", PROMPT))
    assert tokens(rig.run(submit("b", (*PROMPT, 1, 2, 3)))) == expected
    assert rig.admitted("b").cached_tokens > 200


def moved(flip: bool) -> list[Event]:
    """What a decode engine says of a request whose KV comes from another."""
    sender, receiver = Rig(), Rig()
    (prefilled,) = [e for e in sender.run(submit("a", PROMPT, mode=Mode.EXPORT)) if isinstance(e, Prefilled)]
    receiver.run(submit("a", PROMPT, mode=Mode.IMPORT))
    source, target = sender.admitted("a"), receiver.admitted("a")
    for layer, cache in enumerate(SHAPE.layers):
        rows = cache.num_rows(0, len(PROMPT))
        read = sender.memory.spans(layer, 0, 0, rows, source.pages, source.state_pages)
        write = receiver.memory.spans(layer, 0, 0, rows, target.pages, target.state_pages)
        content = b"".join(read)
        assert len(content) == rows * cache.row_bytes(0)
        for span in write:
            span[:], content = content[: span.nbytes], content[span.nbytes :]
    if flip:
        receiver.memory.page(target.pages[3])[LAYOUT.offsets[2][0] + 5] ^= 1
    return receiver.run(BeginDecode(RequestId("a"), prefilled.first_token_id))


def test_remote_and_local_answers_are_equal() -> None:
    assert tokens(moved(flip=False)) == tokens(Rig().run(submit("a", PROMPT)))


def test_a_wrong_byte_fails_the_request() -> None:
    (failed,) = [event for event in moved(flip=True) if isinstance(event, Failed)]
    assert failed.message == (
        "what the request goes on from is not its own: layer 2 has other bytes for 1 tokens, first for token 48"
    )


def test_others_go_on_beside_a_request_that_asks_too_much() -> None:
    events = Rig().run(
        submit("a", PROMPT[:20], max_tokens=3, logprobs=2),
        submit("b", PROMPT[:30], max_tokens=3, grammar=Grammar(GrammarKind.JSON_OBJECT)),
        submit("c", PROMPT[:40], max_tokens=3),
    )
    failed = {event.request_id: event.code for event in events if isinstance(event, Failed)}
    assert failed == {"a": "invalid_request", "b": "invalid_request"}
    assert {event.request_id for event in events if isinstance(event, Generated)} == {"c"}


def test_memory_that_was_taken_away_is_filled_again() -> None:
    small = Rig(pages=2 * LAYOUT.state_pages + 21)
    prompts = {"a": PROMPT[:150], "b": PROMPT[100:250]}
    small.run(*(submit(name, prompt, max_tokens=100) for name, prompt in prompts.items()))
    assert any(isinstance(event, Preempted) for _, event in small.events)
    for name, prompt in prompts.items():
        said = [e.token_id for _, e in small.events if isinstance(e, Generated) and e.request_id == name]
        assert said == tokens(Rig().run(submit(name, prompt, max_tokens=100)))
