"""Bits that change on the way, in payloads, headers and answers: no transfer commits with a wrong byte.

`PRFAAS_BIT_FLIPS` says how many; 100,000 take some minutes.
"""

import itertools
import os
import threading

import pytest

from prfaas.core.errors import PrfaasError
from prfaas.transport.inbox import Received
from tests.transport.flipping_way import FlippingWay
from tests.transport.rig import CONFIG, Receiver, Sender
from tests.transport.test_many_transfers import Transfer

FLIPS = int(os.environ.get("PRFAAS_BIT_FLIPS", "2000"))
MEAN_BYTES = 3000
"""Between two of them: a full frame has one or more."""
SENDERS = 4


@pytest.fixture(autouse=True)
def patient_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, it would have nothing to do with such a sender after nine corrupt objects."""
    monkeypatch.setattr("prfaas.transport.conversation.CORRUPT_OBJECTS", 1 << 62)


def test_no_flipped_bit_is_ever_committed() -> None:
    seeds = itertools.count()
    committed: list[int] = []
    faults: list[str] = []
    with Receiver(CONFIG) as receiver, FlippingWay(receiver.port, MEAN_BYTES) as way:

        def work() -> None:
            with Sender(CONFIG) as sender:
                while way.flips < FLIPS and not faults:
                    seed = next(seeds)
                    transfer = Transfer(seed, receiver, sender, address=way.address)
                    outcome, error = transfer.end()
                    if isinstance(outcome, Received):
                        committed.append(seed)
                    if transfer.wrong() or (error is None and isinstance(outcome, PrfaasError)):
                        faults.append(f"transfer {seed}: {outcome} at the receiver, {error} at the sender")

        workers = [threading.Thread(target=work) for _ in range(SENDERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not faults
        assert way.flips >= FLIPS
        assert len(committed) > FLIPS / 50
        assert receiver.count("prfaas_kv_corrupt_frames_total") > FLIPS / 10
        assert len(receiver.inbox) == 0
