"""The bytes of single tokens, for the kinds of tokenizers that checkpoints have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from prfaas.gateway.token_bytes import TokenBytes
from tests.gateway import tiny_model

BYTE_LEVEL = tiny_model.train()


@given(st.text(max_size=40))
def test_the_bytes_of_tokens_make_up_their_text(text: str) -> None:
    table = TokenBytes(BYTE_LEVEL)
    assert b"".join(table.of(i) or b"" for i in BYTE_LEVEL.encode(text).ids) == text.encode()


def test_tokens_without_text() -> None:
    table = TokenBytes(BYTE_LEVEL)
    special = BYTE_LEVEL.token_to_id("<|im_end|>")
    assert special is not None
    assert (table.of(special), table.name(special), table.unique_name(special)) == (None, "<|im_end|>", "<|im_end|>")
    assert (table.of(9999), table.name(9999), table.unique_name(9999)) == (None, "", "id:9999")


def test_parts_of_characters_have_names_of_their_own() -> None:
    table = TokenBytes(BYTE_LEVEL)
    first, second = BYTE_LEVEL.encode("é").ids
    assert (table.name(first), table.name(second)) == ("�", "�")
    assert (table.unique_name(first), table.unique_name(second)) == ("bytes:\\xc3", "bytes:\\xa9")


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]), b" the"),
        (decoders.Metaspace(), b" the"),
        (decoders.WordPiece(), "▁the".encode()),
        (None, "▁the".encode()),
    ],
)
def test_sentencepiece_writes_spaces_and_bytes_its_own_way(decoder: decoders.Decoder | None, expected: bytes) -> None:
    raw = Tokenizer(models.BPE({"▁the": 0, "<0xE2>": 1, "x": 2}, [], byte_fallback=True))
    raw.add_tokens([AddedToken("▁tool▁", special=False)])
    if decoder is not None:
        raw.decoder = decoder
    table = TokenBytes(raw)
    assert table.of(0) == expected
    assert table.of(2) == b"x"
    assert table.of(1) == (b"\xe2" if isinstance(decoder, decoders.Sequence) else b"<0xE2>")
    assert table.of(3) == "▁tool▁".encode(), "an added token stands for what it says"
