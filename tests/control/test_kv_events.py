"""KV events as bytes: what vLLM's servers send, and what they would read of ours."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.control.kv_decode import decode
from prfaas.control.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KvBatch,
    KvEvent,
    encode,
    frames,
    read_frames,
)
from prfaas.core.errors import WireError

NAME = b"\x01" * 16
BIG = 2**63 + 1

AS_MAPS = bytes.fromhex(
    "93cb3ff80000000000009381a474797065b0416c6c426c6f636b73436c65617265648aa474797065ab426c6f636b53746f726564ac626c6f63"
    "6b5f68617368657392c41001010101010101010101010101010101cf8000000000000001b1706172656e745f626c6f636b5f68617368c0a974"
    "6f6b656e5f6964739401020304aa626c6f636b5f73697a6502a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c0a9"
    "67726f75705f69647800b26b765f63616368655f737065635f6b696e64ae66756c6c5f617474656e74696f6e84a474797065ac426c6f636b52"
    "656d6f766564ac626c6f636b5f68617368657391c41001010101010101010101010101010101a66d656469756da3475055a967726f75705f69"
    "64780100"
)
"""Three events, encoded with the classes of vLLM 0.32."""
AS_ARRAYS = bytes.fromhex(
    "93cb3ff80000000000009391b0416c6c426c6f636b73436c656172656498ab426c6f636b53746f72656492050604940102030402c0a3475055"
    "c093ac426c6f636b52656d6f7665649105a3475055c0"
)
"""The same three with the array-like classes of earlier versions, with integers as names."""

STORED = BlockStored(
    block_hashes=(NAME, BIG),
    parent_block_hash=None,
    token_ids=(1, 2, 3, 4),
    block_size=2,
    lora_id=None,
    medium="GPU",
    lora_name=None,
    group_idx=0,
    kv_cache_spec_kind="full_attention",
)
BATCH = KvBatch(1.5, (AllBlocksCleared(), STORED, BlockRemoved((NAME,), "GPU", 1)), 0)


def test_bytes_are_those_of_a_vllm_server() -> None:
    assert encode(BATCH) == AS_MAPS
    assert decode(AS_MAPS, all_tokens=True) == BATCH


def test_arrays_of_older_servers() -> None:
    stored = BlockStored((5, 6), 4, (1, 2, 3, 4), 2, None, "GPU", None)
    assert decode(AS_ARRAYS) == KvBatch(1.5, (AllBlocksCleared(), stored, BlockRemoved((5,), "GPU")), None)


def test_fields_that_older_servers_lack_and_newer_ones_add() -> None:
    old = {"type": "BlockStored", "block_hashes": [1], "parent_block_hash": None, "token_ids": [], "block_size": 16}
    short = ["BlockStored", [1], None, [], 16]
    expected = BlockStored((1,), None, (), 16, None, None, None)
    new = old | {"session_id": "s", "locality": "LOCAL"}
    later = [*short, None, None, None, None, None, None, None, "later"]
    for events in ([old, new], [short, later]):
        assert decode(msgspec.msgpack.encode([0.0, events])).events == (expected, expected)


def test_tokens_of_blocks_with_our_names_are_not_read() -> None:
    theirs = msgspec.structs.replace(STORED, block_hashes=(BIG, 7))
    events = decode(encode(KvBatch(1.0, (STORED, theirs)))).events
    assert events == (msgspec.structs.replace(STORED, token_ids=()), theirs)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"ts": 1}),
        msgspec.msgpack.encode([1.0, [7]]),
        msgspec.msgpack.encode([1.0, [[]]]),
        msgspec.msgpack.encode([1.0, [["BlockMoved", [1]]]]),
        msgspec.msgpack.encode([1.0, [{"type": "BlockMoved"}]]),
        msgspec.msgpack.encode([1.0, [{"type": "BlockRemoved", "block_hashes": ["text"]}]]),
        msgspec.msgpack.encode([1.0, [["BlockRemoved"]]]),
        msgspec.msgpack.encode([1.0, [["BlockRemoved", [bytes(65)]]]]),
        msgspec.msgpack.encode([1.0, [["AllBlocksCleared"], {"type": "AllBlocksCleared"}]]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, [1 << 32], 1]]]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, [1], 0]]]),
    ],
)
def test_what_is_no_batch(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_a_typed_error(payload: bytes) -> None:
    with suppress(WireError):
        decode(payload)


names = st.one_of(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1))
tokens = st.lists(st.integers(0, 2**32 - 1), max_size=8).map(tuple)
stored = st.builds(
    BlockStored,
    block_hashes=st.lists(names, max_size=4).map(tuple),
    parent_block_hash=st.none() | names,
    token_ids=tokens,
    block_size=st.integers(1, 64),
    lora_id=st.none(),
    medium=st.none() | st.just("GPU"),
    lora_name=st.none(),
    group_idx=st.none() | st.integers(0, 1),
)
removed = st.builds(BlockRemoved, st.lists(names, max_size=4).map(tuple), st.just("GPU"), st.none() | st.integers(0, 1))


@given(st.lists(st.one_of(stored, removed, st.just(AllBlocksCleared())), max_size=6))
def test_what_is_sent_is_what_is_read(events: list[KvEvent]) -> None:
    batch = KvBatch(12.25, tuple(events), 0)
    assert decode(encode(batch), all_tokens=True) == batch


def test_frames() -> None:
    assert frames(b"topic", 258, b"x") == (b"topic", b"\0\0\0\0\0\0\x01\x02", b"x")
    for message in ([b"topic", bytes(8), b"x"], [b"", b"", bytes(8), b"x"], [bytes(8), b"x"]):
        assert read_frames(message) == (bytes(8), b"x")
    for message in ([], [b"x"], [bytes(7), b"x"]):
        with pytest.raises(WireError):
            read_frames(message)
