"""The small messages: strict about what they are."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import WireError
from prfaas.wire.messages import Hello, Manifest, Open, decode, encode
from tests.wire.small import OPEN, manifest

FIELDS = {"secret": b"s", "model_fingerprint": "f", "prompt_tokens": 1, "held_tokens": 0}


def test_round_trips() -> None:
    assert decode(encode(OPEN), Open) == OPEN
    assert decode(msgspec.msgpack.encode(FIELDS), Open) == Open(b"s", "f", 1, 0)
    assert decode(encode(manifest()), Manifest) == manifest()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(Hello("a", "b")),
        msgspec.msgpack.encode(FIELDS | {"prompt_tokens": 0}),
        msgspec.msgpack.encode(FIELDS | {"held_tokens": -1}),
        msgspec.msgpack.encode({name: value for name, value in FIELDS.items() if name != "held_tokens"}),
        msgspec.msgpack.encode(FIELDS | {"more": 1}),
        encode(OPEN)[:-1],
    ],
)
def test_what_is_no_open(data: bytes) -> None:
    with pytest.raises(WireError, match="Open"):
        decode(data, Open)


@given(st.binary(max_size=100))
def test_noise_never_escapes_as_another_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(data, Open)
    with contextlib.suppress(WireError):
        decode(data, Manifest)
