"""Prefixes that leave for other instances, or come from them: what is held, what is refused, what is learnt."""

import pytest

from prfaas.core.errors import NoRoomError, PrefixGoneError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.scheduler.sequence import Mode
from tests.scheduler.fake_instance import PAGE, FakeInstance, request

STATES = 2
PROMPT = tuple(range(4 * PAGE + 1))
PREFIX = request("prefix", PROMPT[: 4 * PAGE])


def computed(prompt: tuple[int, ...] = PROMPT, pages: int = 24, state_pages: int = STATES) -> FakeInstance:
    """An instance that has served a prompt."""
    instance = FakeInstance(pages, cached=True, state_pages=state_pages)
    serve(instance, "first", prompt)
    return instance


def serve(instance: FakeInstance, name: str, prompt: tuple[int, ...], salt: str = "") -> int:
    """Computes a prompt; how many of its tokens were reused."""
    instance.add(name, prompt, salt=salt)
    while name not in instance.ended:
        instance.step()
    return instance.reused[name]


@pytest.mark.parametrize("state_pages", [0, STATES])
def test_what_is_lent_is_held_until_it_is_released(state_pages: int) -> None:
    instance = computed(state_pages=state_pages)
    instance.lend(PREFIX)
    assert instance.cache.available == 24 - 4 - state_pages
    instance.cache.clear()
    assert instance.cache.match(instance.scheduler.names(PREFIX)).usable_blocks == 4
    instance.moves.release(PREFIX.request_id)
    instance.moves.release(PREFIX.request_id)
    assert instance.empty()


@pytest.mark.parametrize(
    "missing",
    [
        request("longer", (*PROMPT[: 4 * PAGE], 7, 7, 7, 7)),
        request("no snapshot there", PROMPT[: 3 * PAGE]),
        request("another tenant's", PROMPT[: 4 * PAGE], salt="theirs"),
        request("other", tuple(range(50, 50 + PAGE))),
    ],
    ids=lambda asked: str(asked.request_id),
)
def test_nothing_is_lent_unless_all_of_it_is_cached(missing: Request) -> None:
    instance = computed()
    with pytest.raises(PrefixGoneError, match=f"of a prefix of {missing.prompt_tokens} tokens only"):
        instance.lend(missing)
    assert instance.empty()


def test_a_prefix_ends_where_a_block_does() -> None:
    instance = computed()
    for move in (instance.lend, instance.reserve):
        with pytest.raises(RequestError, match="leave 1 tokens out"):
            move(request("odd", PROMPT))


def test_where_nothing_is_cached_nothing_moves() -> None:
    instance = FakeInstance(cached=False)
    with pytest.raises(PrefixGoneError):
        instance.lend(PREFIX)
    with pytest.raises(NoRoomError, match=r"prefix_cache\.enabled"):
        instance.reserve(PREFIX)


@pytest.mark.parametrize("state_pages", [0, STATES])
def test_what_has_come_is_gone_on_from(state_pages: int) -> None:
    instance = FakeInstance(24, cached=True, state_pages=state_pages)
    assert instance.reserve(PREFIX)
    instance.check_memory()
    assert instance.arrive(PREFIX, lossy=False)
    assert serve(instance, "next", (*PROMPT, 30, 31)) == 4 * PAGE
    assert instance.reserve(request("again", PREFIX.prompt_token_ids)) is False
    assert instance.empty()


def test_the_blocks_that_are_there_need_not_come() -> None:
    """An import has left the KV of a prompt, and no snapshot."""
    instance = FakeInstance(24, cached=True, state_pages=STATES)
    instance.add("import", PROMPT, 2, Mode.IMPORT)
    instance.step()
    instance.deliver("import")
    instance.release("import")
    free = instance.cache.available
    admitted = instance.moves.reserve(PREFIX)
    assert (admitted.held_tokens, admitted.cached_tokens) == (4 * PAGE, 0)
    assert free - instance.cache.available == STATES + 4
    assert instance.moves.written(PREFIX.request_id) == admitted.state_pages
    assert instance.arrive(PREFIX, lossy=False)
    assert serve(instance, "next", PROMPT) == 4 * PAGE
    assert instance.empty()


def test_what_was_rounded_stays_marked() -> None:
    instance = FakeInstance(24, cached=True, state_pages=STATES)
    instance.reserve(PREFIX)
    instance.arrive(PREFIX, lossy=True)
    lent = instance.moves.lend(PREFIX)
    assert (lent.lossy_tokens, lent.lossy_state) == (4 * PAGE, True)
    clean = FakeInstance(24, cached=True, state_pages=STATES)
    clean.reserve(PREFIX)
    clean.arrive(PREFIX, lossy=False)
    lent = clean.moves.lend(PREFIX)
    assert (lent.lossy_tokens, lent.lossy_state) == (0, False)


def test_a_prefix_that_was_computed_meanwhile_is_there_once() -> None:
    instance = FakeInstance(24, cached=True, state_pages=STATES)
    instance.reserve(PREFIX)
    serve(instance, "meanwhile", PROMPT)
    blocks = instance.cache.blocks
    assert instance.arrive(PREFIX, lossy=False)
    assert instance.cache.blocks == blocks
    assert instance.empty()


def test_what_follows_a_wrong_block_is_not_kept() -> None:
    instance = computed(PROMPT[: 2 * PAGE + 1])
    assert instance.reserve(PREFIX)
    instance.cache.forget(instance.scheduler.names(PREFIX)[:1])
    assert not instance.arrive(PREFIX, lossy=False)
    assert instance.cache.blocks == 0
    assert instance.empty()


def test_what_proves_wrong_while_it_is_sent_is_named() -> None:
    instance = computed()
    instance.lend(PREFIX)
    assert instance.moves.unsound() == []
    instance.cache.forget(instance.scheduler.names(PREFIX)[2:])
    assert instance.moves.unsound() == [PREFIX.request_id]
    instance.moves.release(PREFIX.request_id)
    assert instance.empty()


def test_a_prefix_takes_nothing_that_waiting_requests_need() -> None:
    instance = FakeInstance(16, slots=1, cached=True)
    instance.add("runs", tuple(range(100, 100 + 4 * PAGE)))
    instance.step()
    instance.add("waits", tuple(range(200, 200 + 8 * PAGE)))
    assert instance.scheduler.wanted_pages == 8
    with pytest.raises(NoRoomError, match="needs 4 pages, requests leave 3"):
        instance.reserve(PREFIX)
    instance.release("waits")
    assert instance.reserve(PREFIX)


def test_each_prefix_that_comes_is_asked_once_to_give_way() -> None:
    instance = FakeInstance(24, cached=True)
    instance.reserve(PREFIX)
    other = request("other", tuple(range(50, 50 + PAGE)))
    instance.reserve(other)
    assert [instance.moves.give_way() for _ in range(3)] == [PREFIX.request_id, other.request_id, None]
    for name in ("prefix", "other"):
        instance.moves.release(RequestId(name))
    assert instance.empty()
