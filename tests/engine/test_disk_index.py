"""Which entry the disk tier deletes next."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.engine.disk_format import Key
from prfaas.engine.disk_index import Index
from tests.engine.disk_rig import name


def key(text: str) -> Key:
    return Key("kv", name(text))


def emptied(index: Index) -> list[Key]:
    """Everything, in the order in which it is to be deleted."""
    order = []
    while (oldest := index.oldest()) is not None:
        index.remove(oldest)
        order.append(oldest)
    return order


def test_the_longest_unused_goes_first() -> None:
    index = Index()
    for used_ns, text in enumerate("abc"):
        index.add(key(text), None, 10, used_ns)
    index.touch(key("a"), 7)
    assert emptied(index) == [key("b"), key("c"), key("a")]


def test_children_go_before_parents_however_old_those_are() -> None:
    index = Index()
    index.add(key("a"), None, 10, 1)
    index.add(key("b"), key("a"), 10, 9)
    index.add(Key("state", name("b")), key("b"), 10, 8)
    index.add(key("x"), None, 10, 5)
    assert emptied(index) == [key("x"), Key("state", name("b")), key("b"), key("a")]


def test_a_parent_that_comes_after_its_child_is_kept_as_well() -> None:
    index = Index()
    index.add(key("b"), key("a"), 10, 9)
    index.add(key("a"), None, 10, 1)
    assert emptied(index) == [key("b"), key("a")]


def test_an_earlier_use_changes_nothing() -> None:
    index = Index()
    index.add(key("a"), None, 10, 5)
    index.add(key("b"), None, 10, 6)
    index.touch(key("b"), 1)
    index.touch(key("unknown"), 1)
    assert emptied(index) == [key("a"), key("b")]


NAMES = [str(i) for i in range(8)]
adds = st.tuples(st.just("add"), st.sampled_from(NAMES), st.none() | st.sampled_from(NAMES), st.integers(0, 9))
touches = st.tuples(st.just("touch"), st.sampled_from(NAMES), st.none(), st.integers(0, 9))
removals = st.tuples(st.just("remove"), st.sampled_from(NAMES), st.none(), st.just(0))


@given(deeds=st.lists(adds | touches | removals, max_size=60))
def test_the_oldest_is_always_the_oldest_that_nothing_needs(deeds: list[tuple[str, str, str | None, int]]) -> None:
    index = Index()
    model: dict[Key, tuple[Key | None, int, int]] = {}
    for deed, text, needs, number in deeds:
        # Hashes are chained, so needs form no circles.
        needed = key(needs) if needs is not None and needs < text else None
        if deed == "add":
            index.add(key(text), needed, number, number)
            model[key(text)] = (needed, number, number)
        elif deed == "touch":
            index.touch(key(text), number)
            if (known := model.get(key(text))) is not None:
                model[key(text)] = (known[0], known[1], max(known[2], number))
        else:
            index.remove(key(text))
            model.pop(key(text), None)
        check(index, model)


def check(index: Index, model: dict[Key, tuple[Key | None, int, int]]) -> None:
    needed = {needs for needs, _, _ in model.values()}
    unneeded = {key: used for key, (_, _, used) in model.items() if key not in needed}
    oldest = index.oldest()
    assert set(index) == set(model)
    assert len(index) == len(model)
    assert index.num_bytes == sum(num_bytes for _, num_bytes, _ in model.values())
    assert (oldest is None) == (not model)
    if oldest is not None:
        assert unneeded[oldest] == min(unneeded.values())
