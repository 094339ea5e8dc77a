"""A byte-level BPE tokenizer's work done by a quicker library, where both are known to agree; else it declines.

Knows no special tokens and no templates.
"""

import json
import logging
import re
from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import tiktoken
from tokenizers import Tokenizer, models

log = logging.getLogger(__name__)

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What a `ByteLevel` step with `use_regex` cuts words by."""

_FAMILIAR = (
    r"\x00-\u02ff\u038e-\u03a1\u03a3-\u0482\u048a-\u052f\u2002-\u2027\u20a0-\u20bf\u2190-\u2328\u232b-\u23ff\u2460-\u27bf"
    r"\u3000-\u3029\u3030-\u303e\u3041-\u3096\u309b-\u30ff\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff60\U0001f300-\U0001f5ff"
)
"""Letters, digits, signs and spaces that all versions of Unicode agree about, and that normalise to themselves."""
_UNFAMILIAR = re.compile(f"[^{_FAMILIAR}]")
_LONG_RUN = re.compile(r"\s{4096}")
"""Too much for the quicker library's search for words."""

_WORDS = ("a", "Z", "é", "я", "中", "가", "あ", "ǆ")
_SPACES = (" ", "\n", "\r", "\t", "\x85", "\u3000")
_OTHERS = ("7", "²", "½", "'", "'ll", "'S", ".", "_", "-", "€", "🌍", "<", "\x00")
_DEFAULTS = {
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
}


class FastBpe:
    """Encodes ordinary text, in which nothing is a special token."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def encode(self, text: str) -> list[int] | None:
        """The ids; None for a text about which the two libraries might differ."""
        if _UNFAMILIAR.search(text) or _LONG_RUN.search(text):
            return None
        return self._encoding.encode_ordinary(text)


def fast_bpe(tokenizer: Tokenizer) -> FastBpe | None:
    """The quicker one that gives what `tokenizer` does; None where that cannot be shown.

    Merging by the lowest rank of a result is merging by the first rule if rules come in the order of their results,
    each result has one rule, and every token is what its own letters merge to. How words are cut is compared on all
    triples of letters, signs and spaces of each kind.
    """
    described = json.loads(tokenizer.to_str())
    pattern = _pattern(described)
    added = {token["content"] for token in described["added_tokens"]}
    ranks = _ranks(described["model"], added) if pattern else None
    if pattern is None or ranks is None:
        return None
    try:
        encoding = tiktoken.Encoding("model", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    except ValueError as error:
        log.info("the tokenizer's words cannot be cut by the quicker library: %s", error)
        return None
    fast = FastBpe(encoding)
    return fast if _agree(fast, tokenizer) else None


def _pattern(described: Mapping[str, Any]) -> str | None:
    """What words are cut by; None for other ways to cut them, and for texts that are changed before."""
    normalizer = described.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return None
    step = described.get("pre_tokenizer") or {}
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern
        case _:
            return None


def _ranks(model: Mapping[str, Any], added: set[str]) -> dict[bytes, int] | None:
    """Each token's bytes and its rank, which is its id; not those of tokens that are `added` to the vocabulary."""
    if model.get("type") != "BPE" or any(model.get(name, value) != value for name, value in _DEFAULTS.items()):
        return None
    vocab: dict[str, int] = model["vocab"]
    rules = [tuple(rule) if isinstance(rule, list) else tuple(rule.split(" ")) for rule in model["merges"]]
    results = ["".join(rule) for rule in rules]
    letters = _byte_letters()
    ids = [vocab.get(result, -1) for result in results]
    merged = set(results)
    known = vocab.keys() - added
    if len(merged) != len(results) or any(a >= b for a, b in pairwise(ids)) or not letters.keys() <= vocab.keys():
        return None
    if known != merged | letters.keys() or not _whole(vocab, rules, results, ids):
        return None
    return {bytes(letters[letter] for letter in token): vocab[token] for token in known}


def _whole(vocab: dict[str, int], rules: list[tuple[str, ...]], results: list[str], ids: list[int]) -> bool:
    """Whether every token is what its own letters merge to."""
    alone = Tokenizer(models.BPE(vocab=vocab, merges=[(rule[0], rule[1]) for rule in rules]))
    encodings = alone.encode_batch_fast(results, add_special_tokens=False)
    return all(encoding.ids == [token_id] for encoding, token_id in zip(encodings, ids, strict=True))


def _agree(fast: FastBpe, tokenizer: Tokenizer) -> bool:
    triples = ["".join(triple) for triple in product(_WORDS + _SPACES + _OTHERS, repeat=3)]
    texts = ["".join(triples[i : i + 64]) for i in range(0, len(triples), 64)]
    expected = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    differing = sum(fast.encode(text) != encoding.ids for text, encoding in zip(texts, expected, strict=True))
    if differing:
        log.info("the quicker library cuts words differently in %d of %d texts and is not used", differing, len(texts))
    return not differing


def _byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's table), and the byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
