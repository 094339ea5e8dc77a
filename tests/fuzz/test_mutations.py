"""What `make fuzz` does for a minute, for a moment: changed real connections, and only typed errors."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.transport.inbox import Received
from prfaas.wire.header import ObjectKey
from prfaas.wire.receiving import Phase
from tests.fuzz.connection import FedConnection
from tests.fuzz.served_connection import ServedConnection
from tests.fuzz.streams import SEEDS, START, repaired
from tests.wire.small import EXPECTATION, PIECES, content

MAX_EXTRA_BYTES = 1 << 20


def fed(stream: bytes) -> FedConnection:
    connection = FedConnection(EXPECTATION)
    connection.feed(stream)
    return connection


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("whole", {"accepted": 1, "placed": 5, "committed": 1}),
        ("manifest_first", {"accepted": 1, "placed": 5, "committed": 1}),
        ("opened_twice", {"accepted": 2, "placed": 5, "duplicate": 1, "committed": 1}),
        ("corrupt", {"accepted": 1, "resend": 1, "placed": 5, "committed": 1}),
        ("cancelled", {"accepted": 1, "placed": 1}),
        ("probe", {"accepted": 1, "probe": 1}),
        ("wrong_secret", {"ticket_refused": 1}),
        ("other_digest", {"accepted": 1, "placed": 5, "manifest_invalid": 1}),
    ],
)
def test_seeds_are_what_they_are_called(name: str, said: dict[str, int]) -> None:
    assert fed(SEEDS[name]).said == said
    assert repaired(SEEDS[name]) == SEEDS[name] or name == "corrupt"


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A real connection with some bytes overwritten, inserted, removed or repeated."""
    data = bytearray(draw(st.sampled_from(list(SEEDS.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        new = draw(st.binary(max_size=9))
        removed = draw(st.sampled_from([0, len(new), len(new), len(new), 64]))
        data[at : at + removed] = new
        if not data:
            break
    return bytes(data)


@settings(max_examples=300)
@given(changed(), st.booleans())
def test_only_typed_errors_and_little_memory(stream: bytes, repair: bool) -> None:
    tracemalloc.start()
    try:
        connection = fed(repaired(stream) if repair else stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(stream) + MAX_EXTRA_BYTES
    assert connection.said["committed"] == (connection.session.phase is Phase.COMMITTED)
    assert connection.said["committed"] == 0 or connection.session.bytes_raw == EXPECTATION.shape.cache_bytes(10)


@given(st.binary(max_size=300))
def test_noise_behind_a_real_start(noise: bytes) -> None:
    assert fed(START + repaired(noise)).said["committed"] == 0


@pytest.mark.parametrize(("name", "committed"), [("whole", True), ("corrupt", True), ("wrong_secret", False)])
def test_the_receiver_itself_takes_the_seeds(name: str, committed: bool) -> None:
    connection = ServedConnection(EXPECTATION)
    connection.feed(SEEDS[name])
    connection.check_nothing_is_held()
    assert connection.error is None
    assert isinstance(connection.outcomes.get(), Received) == committed
    if committed:
        whole = {(key.layer, key.tensor): content(ObjectKey(key.layer, key.tensor, 0, key.end)) for key in PIECES}
        assert connection.pages.tensors == whole


@settings(max_examples=300)
@given(changed(), st.booleans())
def test_the_receiver_itself_lets_go_of_everything(stream: bytes, repair: bool) -> None:
    connection = ServedConnection(EXPECTATION)
    connection.feed(repaired(stream) if repair else stream)
    connection.check_nothing_is_held()
