"""Detokenisation for any tokens, cut anywhere, and any stop strings."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders

from prfaas.gateway.detokenize import MAX_HELD_TOKENS, Detokenizer, StopMatcher, TextDecoder
from prfaas.gateway.whole_tokens import WholeTokens
from tests.gateway import tiny_model

TOKENIZER = tiny_model.train()
WHOLE = WholeTokens(TOKENIZER)
NUM_IDS = TOKENIZER.get_vocab_size(with_added_tokens=True)

token_ids = st.lists(st.integers(0, NUM_IDS - 1), max_size=80)
alphabet = st.text("ab", max_size=30)
stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def cut_at_first_stop(text: str, stop_strings: list[str]) -> str:
    """Character by character: the first moment at which the text ends in a stop string, of two the longer."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def decode_all(ids: list[int]) -> str:
    decoder = TextDecoder(TOKENIZER, WHOLE)
    return "".join([*map(decoder.push, ids), decoder.flush()])


@given(token_ids)
def test_pieces_add_up_to_the_whole_for_any_tokens(ids: list[int]) -> None:
    assert decode_all(ids) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(token_ids, st.lists(st.integers(1, 40), max_size=20))
def test_pieces_add_up_wherever_tokens_are_cut_apart(ids: list[int], sizes: list[int]) -> None:
    decoder, text, begin = TextDecoder(TOKENIZER, WHOLE), "", 0
    for size in [*sizes, len(ids)]:
        if part := ids[begin : begin + size]:
            text += decoder.push_all(part)
        begin += size
    assert text + decoder.flush() == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_whole_tokens_are_known_of_byte_level_decoders_only() -> None:
    known = [token_id for token_id in range(NUM_IDS) if WHOLE.text(token_id) is not None]
    assert [WHOLE.text(token_id) for token_id in known] == [TOKENIZER.decode([token_id]) for token_id in known]
    assert len(known) >= 128 - len(TOKENIZER.get_added_tokens_decoder())
    assert WHOLE.text(TOKENIZER.encode("é").ids[-1]) is None
    assert WHOLE.text(TOKENIZER.token_to_id("<|im_end|>") or 0) is None
    joining = tiny_model.train()
    joining.decoder = decoders.Metaspace()
    assert all(WholeTokens(joining).text(token_id) is None for token_id in known)


@given(st.text(max_size=60))
def test_text_comes_back_without_broken_characters(text: str) -> None:
    decoder = TextDecoder(TOKENIZER, WHOLE)
    pieces = [decoder.push(i) for i in TOKENIZER.encode(text).ids]
    assert "".join(pieces) + decoder.flush() == text
    if "�" not in text:
        assert not any("�" in piece for piece in pieces)


@given(st.integers(0, 300), st.sampled_from(["é", "世", "🎉"]), st.integers(0, 20))
def test_garbage_without_end_is_given_out_and_what_follows_is_whole(garbage: int, char: str, more: int) -> None:
    stray = TOKENIZER.encode("é").ids[-1]  # a continuation byte, which no character begins with
    ids = [stray] * garbage + TOKENIZER.encode(char).ids + [stray] * more
    decoder = TextDecoder(TOKENIZER, WHOLE)
    pieces = [decoder.push(i) for i in ids]
    assert "".join(pieces) + decoder.flush() == TOKENIZER.decode(ids)
    if garbage > MAX_HELD_TOKENS:
        assert any(pieces[: MAX_HELD_TOKENS + 1]), "a run of stray bytes must not be held for ever"


@given(st.integers(0, 200), st.text("ab é", max_size=10))
def test_special_tokens_have_no_text(count: int, text: str) -> None:
    special = TOKENIZER.token_to_id("<|im_end|>")
    assert special is not None
    ids = TOKENIZER.encode(text).ids
    assert decode_all(ids + [special] * count + ids) == text + text


@given(st.lists(alphabet, max_size=8), stops)
@example(["ab", "ba"], ["abb", "bb"])
@example(["a", "ab"], ["aab", "ab"])
@example(["aba"], ["abab"])
def test_output_is_the_text_up_to_the_first_stop_wherever_it_is_cut(chunks: list[str], stop_strings: list[str]) -> None:
    matcher = StopMatcher(stop_strings)
    output = ""
    for chunk in chunks:
        output += matcher.push(chunk)
        assert not any(stop in output for stop in stop_strings)
        if matcher.matched:
            break
    else:
        output += matcher.flush()
    text = "".join(chunks)
    assert output == cut_at_first_stop(text, stop_strings)
    assert matcher.matched == any(stop in text for stop in stop_strings)


@given(st.lists(alphabet, max_size=8), stops)
def test_nothing_is_held_back_that_cannot_begin_a_stop_string(chunks: list[str], stop_strings: list[str]) -> None:
    matcher = StopMatcher(stop_strings)
    text = output = ""
    for chunk in chunks:
        text += chunk
        output += matcher.push(chunk)
        if matcher.matched:
            return
        held = text[len(output) :]
        assert held == "" or any(stop.startswith(held) for stop in stop_strings)


@given(st.text("aé🎉 ", max_size=30), st.lists(st.text("aé🎉 ", min_size=1, max_size=3), max_size=4))
def test_tokens_to_text_with_stop_strings(text: str, stop_strings: list[str]) -> None:
    detokenizer = Detokenizer(TOKENIZER, WHOLE, stop_strings)
    output = ""
    for token_id in TOKENIZER.encode(text).ids:
        output += detokenizer.push(token_id)
        if detokenizer.stopped:
            break
    else:
        output += detokenizer.flush()
    assert output == cut_at_first_stop(text, stop_strings)
    assert detokenizer.stopped == any(stop in text for stop in stop_strings)


def test_a_stop_string_can_be_found_in_the_rest() -> None:
    detokenizer = Detokenizer(TOKENIZER, WHOLE, ["�"])
    assert detokenizer.push(TOKENIZER.encode("é").ids[0]) == ""
    assert detokenizer.flush() == ""
    assert detokenizer.stopped


def test_ids_beyond_the_tokenizer_have_no_text() -> None:
    """A model's vocabulary is often padded, so such ids can be sampled."""
    ids = TOKENIZER.encode("ok").ids
    assert decode_all([*ids, NUM_IDS + 5, *ids]) == "okok"


def test_an_empty_stop_string_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        StopMatcher([""])
