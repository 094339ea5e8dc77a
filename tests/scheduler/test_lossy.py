"""What was rounded on its way here is known as such by everybody who builds on it, as long as it is there."""

from prfaas.scheduler.sequence import Mode
from tests.scheduler.fake_instance import PAGE, FakeInstance

HYBRID = 1


def imported(instance: FakeInstance, name: str, prompt: int, *, lossy: bool) -> None:
    instance.add(name, prompt, 6, Mode.IMPORT)
    instance.step()
    instance.deliver(name, lossy=lossy)
    while name not in instance.ended:
        instance.step()


def marks(instance: FakeInstance, prompt: int | tuple[int, ...]) -> tuple[int, bool]:
    """Of a request with such a prompt, which is then taken back."""
    instance.add("next", prompt, 1, Mode.EXPORT)
    instance.step()
    sequence = instance.get("next")
    found = sequence.lossy_tokens, sequence.lossy_state
    instance.release("next")
    return found


def next_turn(instance: FakeInstance, name: str, prompt: int) -> tuple[int, ...]:
    """A prompt, the answer to it, and more."""
    return (*range(prompt), *instance.answers[name], 1, 2, 3)


def test_blocks_of_a_lossy_import_are_marked() -> None:
    instance = FakeInstance(pages=32, cached=True)
    imported(instance, "a", 2 * PAGE + 1, lossy=True)
    # The block that the prompt ends in is in part rounded. What the answer wrote behind it is not.
    assert marks(instance, next_turn(instance, "a", 2 * PAGE + 1)) == (3 * PAGE, False)
    assert instance.empty()


def test_blocks_of_an_exact_import_are_not() -> None:
    instance = FakeInstance(pages=32, cached=True)
    imported(instance, "a", 2 * PAGE + 1, lossy=False)
    assert marks(instance, next_turn(instance, "a", 2 * PAGE + 1)) == (0, False)


def test_what_was_held_already_is_not_marked() -> None:
    instance = FakeInstance(pages=32, cached=True)
    instance.add("a", 2 * PAGE, 1)
    while "a" not in instance.ended:
        instance.step()
    imported(instance, "b", 3 * PAGE, lossy=True)
    assert marks(instance, 2 * PAGE + 1) == (0, False)
    assert marks(instance, 3 * PAGE + 1) == (3 * PAGE, False)


def test_a_page_that_was_freed_is_as_good_as_any() -> None:
    instance = FakeInstance(pages=8, cached=True)
    imported(instance, "a", 4 * PAGE, lossy=True)
    instance.cache.clear()
    instance.add("b", 6 * PAGE + 1, 1)
    while "b" not in instance.ended:
        instance.step()
    assert marks(instance, 6 * PAGE + 1) == (0, False)


def test_states_that_stem_from_a_lossy_import_are_told() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID, answer_every=PAGE)
    imported(instance, "a", 2 * PAGE, lossy=True)
    # Its answer left a snapshot, from which the next turn goes on; what that leaves stems from it, too.
    prompt = next_turn(instance, "a", 2 * PAGE)
    assert marks(instance, prompt) == (2 * PAGE, True)
    longer = (*prompt, *range(4 * PAGE))
    instance.add("b", longer, 1)
    while "b" not in instance.ended:
        instance.step()
    assert instance.reused["b"] == 4 * PAGE
    assert marks(instance, (*longer, 1, 2)) == (2 * PAGE, True)


def test_a_snapshot_of_before_a_lossy_import_is_none() -> None:
    instance = FakeInstance(pages=64, cached=True, state_pages=HYBRID)
    instance.add("a", 2 * PAGE, 1)
    while "a" not in instance.ended:
        instance.step()
    imported(instance, "b", 3 * PAGE, lossy=True)
    assert marks(instance, 2 * PAGE + 1) == (0, False)
