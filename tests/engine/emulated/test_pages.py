"""What lies in emulated pages can be checked: every byte that stands for a prefix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import lay_out
from prfaas.engine.emulated.chain import NOTHING, numbers
from prfaas.engine.emulated.pages import EmulatedPages
from prfaas.engine.emulated.shape import emulated_shape
from prfaas.engine.memory import CacheMemory
from tests.engine.emulated.profiles import PROFILE

PAGE = 16
SHAPE = emulated_shape(PROFILE, 1000)
LAYOUT = lay_out(SHAPE, PAGE)
PROMPT = tuple(range(3, 53))
PAGES = (7, 2, 9, 4)
STATES = tuple(range(10, 10 + LAYOUT.state_pages))


def filled() -> tuple[bytearray, EmulatedPages]:
    memory = bytearray(LAYOUT.num_bytes(20 + LAYOUT.state_pages))
    pages = EmulatedPages(SHAPE, LAYOUT, memoryview(memory))
    chain = numbers(NOTHING, PROMPT)
    for layer in SHAPE.paged_layers:
        pages.write_tokens(layer, pages.places(0, 20, PAGES), chain[:20])
        pages.write_tokens(layer, pages.places(20, 50, PAGES), chain[20:])
    pages.write_states(int(chain[-1]), STATES)
    return memory, pages


def fault(pages: EmulatedPages, prompt: tuple[int, ...] = PROMPT) -> str | None:
    return pages.fault(numbers(NOTHING, prompt), PAGES, STATES)


def test_what_was_written_is_there() -> None:
    assert fault(filled()[1]) is None


def test_another_prompt_is_not() -> None:
    _, pages = filled()
    found = fault(pages, (*PROMPT[:30], 0, *PROMPT[31:]))
    assert found == "layer 0 has other bytes for 20 tokens, first for token 30"


@given(st.data())
def test_every_byte_that_crosses_is_checked(data: st.DataObject) -> None:
    memory, pages = filled()
    cache = CacheMemory(SHAPE, LAYOUT, memoryview(memory))
    layer = data.draw(st.sampled_from(range(len(SHAPE.layers))))
    rows = SHAPE.layers[layer].num_rows(0, len(PROMPT))
    row = data.draw(st.integers(0, rows - 1))
    (span,) = cache.spans(layer, 0, row, row + 1, PAGES, STATES)
    at = data.draw(st.integers(0, span.nbytes - 1))
    span[at] ^= 1 << data.draw(st.integers(0, 7))
    assert fault(pages) is not None


def test_a_state_goes_on_by_one_token_in_place_or_beside_a_snapshot() -> None:
    _, pages = filled()
    after = tuple(page + LAYOUT.state_pages for page in STATES)
    longer = (*PROMPT, 99)
    chain = numbers(NOTHING, longer)
    for layer in SHAPE.paged_layers:
        pages.write_tokens(layer, pages.places(50, 51, PAGES), chain[50:])
    pages.advance_states(int(chain[-1]), STATES, after)
    assert pages.fault(chain, PAGES, after) is None
    assert pages.fault(chain[:50], PAGES, STATES) is None
    pages.advance_states(int(chain[-1]), STATES, STATES)
    assert pages.fault(chain, PAGES, STATES) is None


@pytest.mark.parametrize(("start", "end"), [(0, 1), (15, 17), (16, 16), (31, 50)])
def test_places_are_pages_and_slots(start: int, end: int) -> None:
    _, pages = filled()
    found = pages.places(start, end, PAGES)
    expected = [(PAGES[i // PAGE], i % PAGE) for i in range(start, end)]
    assert list(zip(*(np.asarray(part).tolist() for part in found), strict=True)) == expected
