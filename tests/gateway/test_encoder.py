"""Every quick way to encode gives the ids that the tokenizer file itself gives, whatever the text."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from prfaas.gateway import fast_bpe as fast_bpe_module
from prfaas.gateway.encoder import Encoder
from prfaas.gateway.fast_bpe import fast_bpe
from prfaas.gateway.segments import Segments, separable
from tests.gateway.tiny_model import CORPUS

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im"]
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t'aZ9.<|é中한"))) | st.text(
    st.sampled_from(" \n\r\t'lLsSaZ09.,<|>é中한я")
)
CHATS = st.lists(TEXTS | st.sampled_from(SPECIAL), max_size=8).map("".join)


def trained(step: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = step
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, "it's we'll 'S 12345 中文 \n\n  indented", "éé  한국어"] * 3, trainer)
    return tokenizer


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def with_bos(tokenizer: Tokenizer) -> Tokenizer:
    bos = ("<|im_start|>", tokenizer.token_to_id("<|im_start|>"))
    eos = ("<|im_end|>", tokenizer.token_to_id("<|im_end|>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|> <|im_end|>", special_tokens=[bos, eos]
    )
    return tokenizer


QUICK = {
    "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "qwen": trained(split_by(QWEN), normalizers.NFC()),
    "llama3": with_bos(trained(split_by(LLAMA3))),
}
OTHERS = {
    "lower": trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase()),
    "prefix space": trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "metaspace": trained(pre_tokenizers.Metaspace(prepend_scheme="always")),
    "first": trained(pre_tokenizers.Metaspace(prepend_scheme="first")),
}
ENCODERS = {name: (tokenizer, Encoder(tokenizer)) for name, tokenizer in (QUICK | OTHERS).items()}


@pytest.mark.parametrize("name", QUICK)
def test_known_kinds_of_tokenizers_are_encoded_quickly(name: str) -> None:
    fast = fast_bpe(QUICK[name])
    assert fast is not None
    assert fast.encode("hello world") == QUICK[name].encode("hello world", add_special_tokens=False).ids


@pytest.mark.parametrize("name", OTHERS)
def test_kinds_that_are_not_known_are_left_to_the_library(name: str) -> None:
    assert fast_bpe(OTHERS[name]) is None
    assert separable(OTHERS[name]) == (name != "first")


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=60)
@given(text=CHATS, twice=st.booleans())
@example(text="<|im_start|>user\nhello world, hello world, hello world<|im_end|>\n", twice=True)
@example(text="<|im_start|><|im_start|>", twice=False)
@example(text="\u2000e\u0301\u1100\u1161\u212b\u0345", twice=False)
@example(text=" " * 5000 + "x" + "\n" * 5000, twice=False)
def test_ids_are_those_of_the_tokenizer_file(name: str, text: str, twice: bool) -> None:
    tokenizer, encoder = ENCODERS[name]
    for _ in range(1 + twice):
        for added in (False, True):
            assert encoder.encode(text, add_special_tokens=added) == tuple(
                tokenizer.encode(text, add_special_tokens=added).ids
            )


def counting(tokenizer: Tokenizer, encoded: list[str]) -> Callable[[object], list[list[int]]]:
    def encode(pieces: object) -> list[list[int]]:
        assert isinstance(pieces, list)
        encoded.extend(pieces)
        return [tokenizer.encode(piece, add_special_tokens=False).ids for piece in pieces]

    return encode


def test_turns_of_a_conversation_are_encoded_once() -> None:
    tokenizer, encoded = QUICK["gpt2"], list[str]()
    segments = Segments(tokenizer, counting(tokenizer, encoded))
    chat = ""
    for turn in range(5):
        chat += f"<|im_start|>user\nthis is the turn with the number {turn} of a long conversation<|im_end|>\n"
        assert segments.encode(chat) == tuple(tokenizer.encode(chat, add_special_tokens=False).ids)
    assert sum("turn with the number" in piece for piece in encoded) == 5


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    tokenizer, encoded = QUICK["gpt2"], list[str]()
    segments = Segments(tokenizer, counting(tokenizer, encoded), max_kept_chars=200)
    first, second = "a" * 90, "b" * 90
    for text in (first, second, first, "c" * 90, first):
        segments.encode(text)
    assert segments.kept_chars <= 200
    assert encoded == [first, second, "c" * 90]
    segments.encode(second)
    assert encoded[-1] == second


def test_a_token_that_swallows_spaces_forbids_pieces() -> None:
    tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    assert not separable(tokenizer)
    text = "hello   <mask> world"
    assert Encoder(tokenizer).encode(text, add_special_tokens=False) == tuple(tokenizer.encode(text).ids)


def test_rules_whose_order_or_results_differ_are_left_to_the_library() -> None:
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = {"ab": 256, "bc": 257, "abc": 258}

    def built(words: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE(vocab=letters | words, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer

    assert fast_bpe(built(words, [("a", "b"), ("b", "c"), ("ab", "c")])) is not None
    # "bc" merges first, and no rule makes "abc" of "a" and "bc".
    swapped = words | {"ab": 257, "bc": 256}
    assert fast_bpe(built(swapped, [("b", "c"), ("a", "b"), ("ab", "c")])) is None
    assert fast_bpe(built(words, [("b", "c"), ("a", "b"), ("ab", "c")])) is None
    assert fast_bpe(built(words | {"xyz": 259}, [("a", "b"), ("b", "c"), ("ab", "c")])) is None


def test_words_that_would_be_cut_differently_are_left_to_the_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast_bpe_module, "GPT2_PATTERN", r"\S+|\s+")
    with caplog.at_level(logging.INFO):
        assert fast_bpe(QUICK["gpt2"]) is None
    assert "cuts words differently" in caplog.text
