"""The small messages: strict about what they are, bounded in what they may make us hold."""

import contextlib
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import WireError
from prfaas.wire.messages import (
    MAX_MESSAGE_BYTES,
    MAX_OBJECTS,
    MAX_SMALL_MESSAGE_BYTES,
    Accepted,
    Ack,
    Hello,
    Manifest,
    ManifestObject,
    Open,
    Rejected,
    RowRange,
    Welcome,
    decode,
    encode,
)
from tests.wire.small import OPEN, manifest

SESSION = b"0123456789abcdef"
MESSAGES: list[Any] = [
    Hello(versions=(3, 4), instance_id="prefill-0", cluster="east", session=SESSION),
    Welcome(3, "decode-0", "west", 7, 1 << 20, 64 << 20, 64),
    OPEN,
    Accepted(()),
    Accepted((RowRange(0, 0, 0, 1), RowRange(65535, 255, 7, 2**32 - 1))),
    Ack(2**64 - 1, 1),
    manifest(),
    Rejected("ticket_refused", "the ticket has ended"),
]
FIELDS: dict[str, Any] = {
    "secret": b"s",
    "model_fingerprint": "f",
    "prompt_tokens": 1,
    "held_tokens": 0,
    "kv_dtype": "bfloat16",
}
ENTRY = [0, 0, 0, 1, 0, 4, 2**64 - 1]
HELLO = msgspec.to_builtins(MESSAGES[0], builtin_types=(bytes,))
MANIFEST = msgspec.to_builtins(manifest())


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trips(message: Any) -> None:
    assert decode(encode(message), type(message)) == message
    assert decode(memoryview(bytearray(encode(message))), type(message)) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_a_field_too_many_is_ignored_only_where_versions_are_agreed(message: Any) -> None:
    kind = type(message)
    more = msgspec.msgpack.encode(msgspec.to_builtins(message, builtin_types=(bytes,)) | {"more": [1, {"a": None}]})
    if kind in (Hello, Welcome):
        assert decode(more, kind) == message
    else:
        with pytest.raises(WireError, match=kind.__name__):
            decode(more, kind)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_field_too_few_a_byte_too_few_or_too_many(message: Any) -> None:
    kind, data = type(message), encode(message)
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    for name in fields:
        with pytest.raises(WireError, match=name):
            decode(msgspec.msgpack.encode({n: value for n, value in fields.items() if n != name}), kind)
    for wrong in (*(data[:end] for end in range(len(data))), data + b"\xc0"):
        with pytest.raises(WireError):
            decode(wrong, kind)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Open, FIELDS | {"prompt_tokens": 0}),
        (Open, FIELDS | {"prompt_tokens": 2**32}),
        (Open, FIELDS | {"prompt_tokens": True}),
        (Open, FIELDS | {"prompt_tokens": 1.0}),
        (Open, FIELDS | {"held_tokens": -1}),
        (Open, FIELDS | {"secret": b""}),
        (Open, FIELDS | {"secret": b"s" * 65}),
        (Open, FIELDS | {"secret": "s"}),
        (Open, FIELDS | {"model_fingerprint": "f" * 129}),
        (Open, FIELDS | {"kv_dtype": "float16"}),
        (Hello, HELLO | {"versions": []}),
        (Hello, HELLO | {"versions": [3] * 17}),
        (Hello, HELLO | {"versions": [-1]}),
        (Hello, HELLO | {"session": SESSION[:15]}),
        (Hello, HELLO | {"session": SESSION + b"x"}),
        (Hello, HELLO | {"instance_id": ""}),
        (Hello, HELLO | {"cluster": "c" * 254}),
        (Welcome, msgspec.structs.asdict(MESSAGES[1]) | {"max_frame_bytes": 0}),
        (Welcome, msgspec.structs.asdict(MESSAGES[1]) | {"credit_bytes": 2**63}),
        (Welcome, msgspec.structs.asdict(MESSAGES[1]) | {"max_streams": 0}),
        (Ack, {"frames": 0, "credit_bytes": 0}),
        (Ack, {"frames": -1, "credit_bytes": 1}),
        (Accepted, {"received": [[0, 0, 0]]}),
        (Accepted, {"received": [[0, 0, 0, 1, 1]]}),
        (Accepted, {"received": [[0, 0, 0, 2**32]]}),
        (Manifest, MANIFEST | {"objects": [ENTRY[:6]]}),
        (Manifest, MANIFEST | {"objects": [[*ENTRY, 0]]}),
        (Manifest, MANIFEST | {"objects": [[0, 0, 0, 1, 256, 4, 5]]}),
        (Manifest, MANIFEST | {"objects": [[0, 0, 0, 1, 0, 4, -5]]}),
        (Manifest, MANIFEST | {"queue_ms": float("nan")}),
        (Manifest, MANIFEST | {"prefill_ms": float("inf")}),
        (Manifest, MANIFEST | {"prefill_ms": -1.0}),
        (Rejected, {"code": "", "message": ""}),
    ],
)
def test_every_bound_holds(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(WireError, match=kind.__name__):
        decode(msgspec.msgpack.encode(fields), kind)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Hello, b"\x81\xa1x" + b"\x91" * 60_000 + b"\xc0"),
        (Hello, b"\xdf\xff\xff\xff\xff"),
        (Hello, b"\x81\xa8versions\xdd\xff\xff\xff\xff"),
        (Hello, b"\x81\xabinstance_id\xa2\xff\xfe"),
        (Hello, b"\x81\xa1x\xc9\xff\xff\xff\xff\x01"),
        (Open, b"\x81\xa6secret\xc6\xff\xff\xff\xff"),
        (Accepted, b"\x81\xa8received\xdd\xff\xff\xff\xff"),
        (Accepted, b"\x81\xa8received\xdd\x00\x04\x00\x01"),
        (Manifest, b"\x81\xa7objects\xdd\xff\xff\xff\xff"),
    ],
)
def test_what_a_length_announces_is_not_allocated(kind: Any, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=kind.__name__):
            decode(data, kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_the_largest_of_each_fits_the_frames_they_come_in() -> None:
    top = 2**32 - 1
    largest = ManifestObject(top, top, top, top, 255, top, 2**64 - 1)
    full = msgspec.structs.replace(manifest(), objects=(largest,) * MAX_OBJECTS)
    assert len(encode(full)) < MAX_MESSAGE_BYTES
    assert len(encode(Accepted((RowRange(top, top, top, top),) * MAX_OBJECTS))) < MAX_MESSAGE_BYTES
    for message in MESSAGES[:3]:
        assert len(encode(message)) < MAX_SMALL_MESSAGE_BYTES
    one_more = msgspec.structs.replace(manifest(), objects=(largest,) * (MAX_OBJECTS + 1))
    with pytest.raises(WireError, match="length"):
        decode(encode(one_more), Manifest)


@given(st.binary(max_size=100))
def test_noise_never_escapes_as_another_error(data: bytes) -> None:
    kinds: list[Any] = [Hello, Welcome, Open, Accepted, Ack, Manifest, Rejected]
    for kind in kinds:
        with contextlib.suppress(WireError):
            decode(data, kind)
