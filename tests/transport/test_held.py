"""Transfers over real sockets to a receiver that holds the start of the prompt: what crosses, and what must not."""

import dataclasses

import msgspec
import pytest

from prfaas.core.errors import ManifestError
from prfaas.core.shape import ModelShape
from prfaas.transport.inbox import Received
from prfaas.wire.header import ObjectKey
from prfaas.wire.tensors import Expectation
from tests.transport.rig import Expected, Receiver, Sender, Sent
from tests.wire.small import EXPECTATION, MLA, OPEN, PIECES, TOKENS, content

HELD = 7
HELD_KEY = ObjectKey(1, 0, 0, HELD)
REST = tuple(key for key in PIECES if key != HELD_KEY)
HOLDING = dataclasses.replace(EXPECTATION, held_tokens=HELD)
DENSE = ModelShape("dense", (MLA,), max_context_tokens=1024)


def begin(sender: Sender, receiver: Receiver, expectation: Expectation) -> tuple[Sent, Expected]:
    """A transfer whose sender leaves out what `expectation` says is held."""
    expected = receiver.expect(expectation=expectation)
    opening = msgspec.structs.replace(OPEN, held_tokens=expectation.held_tokens)
    return sender.start(receiver.address, expected.transfer_id, opening), expected


def test_only_the_rest_crosses() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent, expected = begin(sender, receiver, HOLDING)
        sent.send(*REST)
        sent.finish()
        got = expected.received()
        assert sent.result() is None
    assert expected.memory.at(HELD_KEY) == bytes(len(content(HELD_KEY)))
    shape = EXPECTATION.shape
    assert got.bytes_wire == got.bytes_raw == (TOKENS - HELD) * shape.kv_bytes_per_token + shape.state_bytes
    assert got.manifest.held_tokens == HELD


def test_a_model_without_states_of_which_all_is_held_sends_no_object() -> None:
    all_held = dataclasses.replace(EXPECTATION, shape=DENSE, sent_shapes={"float32": DENSE}, held_tokens=TOKENS)
    with Receiver() as receiver, Sender() as sender:
        sent, expected = begin(sender, receiver, all_held)
        sent.finish()
        got = expected.received()
        assert sent.result() is None
    assert (got.bytes_raw, got.transfer_s, got.manifest.objects) == (0, 0.0, ())
    assert expected.memory.only(0)


@pytest.mark.parametrize("intruder", [HELD_KEY, ObjectKey(1, 0, HELD - 1, TOKENS)])
def test_an_object_of_held_tokens_fails_the_transfer_and_is_not_placed(intruder: ObjectKey) -> None:
    with Receiver() as receiver, Sender() as sender:
        sent, expected = begin(sender, receiver, HOLDING)
        sent.send(intruder)
        assert isinstance(sent.result(), ManifestError)
        assert isinstance(expected.result(), ManifestError)
    assert expected.memory.only(0)


def test_states_alone_cross_where_all_tokens_are_held_and_may_not_be_left_out() -> None:
    states = [key for key in PIECES if key.layer == 0]
    all_held = dataclasses.replace(EXPECTATION, held_tokens=TOKENS)
    with Receiver() as receiver, Sender() as sender:
        for keys in (states, states[1:], []):
            sent, expected = begin(sender, receiver, all_held)
            sent.send(*keys)
            sent.finish()
            assert (sent.result() is None) == isinstance(expected.result(), Received) == (keys == states)
