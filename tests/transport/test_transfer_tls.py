"""Transfers between the two real ends through TLS: the same bytes, and nobody who is not of the fleet."""

from pathlib import Path
from random import Random

import pytest

from prfaas.core.errors import PeerRefusedError
from prfaas.core.ids import new_transfer_id
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.transport.inbox import Received
from prfaas.wire.header import ObjectKey
from prfaas.wire.messages import Open
from prfaas.wire.tensors import Expectation
from tests.control.issued import new_authority, party
from tests.eventually import eventually
from tests.transport.receiving_rig import CONFIG, Memory
from tests.transport.rig import Receiver, Sender
from tests.wire.small import FINGERPRINT, SECRET

AUTHORITY = new_authority()
TOKENS = 4000
LARGE = CONFIG.model_copy(update={"frame_bytes": 1 << 20, "staging_bytes": 2 << 20, "min_streams": 2})
SHAPE = ModelShape(
    "dense", (LayerCache("gqa", True, (CacheTensor("k", (256,), "float32"),)),), max_context_tokens=TOKENS
)
EXPECTATION = Expectation(SHAPE, {"float32": SHAPE}, FINGERPRINT, TOKENS, SECRET)


@pytest.mark.parametrize("staged", [False, True])
def test_frames_of_many_records_arrive_whole(tmp_path: Path, staged: bool) -> None:
    west, east = party(tmp_path, AUTHORITY).credentials, party(tmp_path, AUTHORITY).credentials
    with Receiver(LARGE, credentials=west) as receiver, Sender(LARGE, credentials=east) as sender:
        data = Random(staged).randbytes(TOKENS * 1024)
        expected = receiver.expect(Memory(EXPECTATION, staged=staged), expectation=EXPECTATION)
        sent = sender.start(receiver.address, expected.transfer_id, Open(SECRET, FINGERPRINT, TOKENS, 0, "float32"))
        for start in range(0, TOKENS, 1000):
            sent.send_bytes(ObjectKey(0, 0, start, start + 1000), data[start * 1024 : (start + 1000) * 1024])
        sent.finish()
        assert isinstance(expected.result(), Received)
        assert sent.result() is None
        assert expected.memory.at(ObjectKey(0, 0, 0, TOKENS)) == data


def test_a_server_closes_in_the_middle_of_a_handshake(tmp_path: Path) -> None:
    patient = CONFIG.model_copy(update={"connect_timeout_s": 600.0})
    with Receiver(patient, credentials=party(tmp_path, AUTHORITY).credentials) as receiver:
        receiver.stranger()
        receiver.settles(1)


def test_a_sender_of_another_fleet_is_refused_and_counted(tmp_path: Path) -> None:
    west, stranger = party(tmp_path, AUTHORITY).credentials, party(tmp_path, new_authority()).credentials
    with Receiver(CONFIG, credentials=west) as receiver, Sender(CONFIG, credentials=stranger) as sender:
        assert isinstance(sender.start(receiver.address, new_transfer_id()).result(), PeerRefusedError)
        eventually(lambda: receiver.count("prfaas_kv_refused_total", code="peer_refused") >= 1)
