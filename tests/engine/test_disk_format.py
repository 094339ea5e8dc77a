"""Headers of the disk tier's files: what is written is read, and nothing else is taken for a header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.changes import Part
from prfaas.core.ids import BlockHash
from prfaas.engine.disk_format import (
    HEADER_BYTES,
    Header,
    Key,
    file_name,
    key_of,
    needed_by,
    occupied_bytes,
    packed,
    payload_digest,
    scope_of,
    unpacked,
)

PARTS: list[Part] = ["kv", "state"]
sixteen = st.binary(min_size=16, max_size=16)
keys = st.builds(Key, st.sampled_from(PARTS), sixteen.map(BlockHash))
headers = st.builds(
    Header,
    key=keys,
    parent=st.none() | sixteen.map(BlockHash),
    scope=sixteen,
    payload_bytes=st.integers(0, 2**63),
    digest=sixteen,
)


@given(header=headers)
def test_a_header_reads_as_it_was_written(header: Header) -> None:
    raw = packed(header)
    assert len(raw) == HEADER_BYTES
    assert unpacked(raw) == header


@given(header=headers, at=st.integers(0, HEADER_BYTES - 1), flip=st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(header: Header, at: int, flip: int) -> None:
    raw = bytearray(packed(header))
    raw[at] ^= flip
    assert unpacked(bytes(raw)) is None


@given(raw=st.binary(max_size=2 * HEADER_BYTES))
def test_other_bytes_are_no_header(raw: bytes) -> None:
    assert unpacked(raw) is None


@given(header=headers, length=st.integers(0, HEADER_BYTES - 1))
def test_a_part_of_a_header_is_none(header: Header, length: int) -> None:
    assert unpacked(packed(header)[:length]) is None


@given(key=keys)
def test_names_of_files_lead_back_to_entries(key: Key) -> None:
    assert key_of(file_name(key)) == key


@pytest.mark.parametrize(
    "name", ["", "kv", ".kv", "00.kv", f"{'0' * 32}", f"{'0' * 32}.txt", f"{'A' * 32}.kv", f"{'0' * 31} .kv"]
)
def test_other_names_are_not_ours(name: str) -> None:
    assert key_of(name) is None


def test_a_block_needs_the_one_before_and_a_snapshot_its_block() -> None:
    here, before = BlockHash(b"h" * 16), BlockHash(b"b" * 16)
    assert needed_by(Key("kv", here), before) == Key("kv", before)
    assert needed_by(Key("kv", here), None) is None
    assert needed_by(Key("state", here), before) == Key("kv", here)


def test_scopes_differ_by_model_and_by_format() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("ab", ""), ("", "abc")]
    assert len({scope_of(*pair) for pair in pairs}) == len(pairs)


def test_a_digest_covers_all_pages_in_order() -> None:
    one, two = memoryview(b"one"), memoryview(b"two")
    assert payload_digest([one, two]) == payload_digest([memoryview(b"onetwo")])
    assert payload_digest([one, two]) != payload_digest([two, one])


def test_an_entry_takes_whole_blocks() -> None:
    sizes = [0, 4096 - HEADER_BYTES, 4097 - HEADER_BYTES, 16384]
    assert [occupied_bytes(size) for size in sizes] == [4096, 4096, 8192, 20480]
