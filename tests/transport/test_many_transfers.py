"""Thousands of transfers of random models between the two real ends: none wrong, nothing left over.

`PRFAAS_TRANSFERS` says how many; 10,000 take some minutes.
"""

import os
import threading
from collections.abc import Iterator
from random import Random

from prfaas.core.errors import CancelledError, PrfaasError
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.transport.inbox import Outcome, Received
from prfaas.wire.header import ObjectKey
from prfaas.wire.messages import Open
from prfaas.wire.tensors import Expectation
from tests.eventually import eventually
from tests.transport.receiving_rig import CONFIG, EPOCH, Expected, Memory, Receiver
from tests.transport.rig import Sender, Sent
from tests.wire.small import FINGERPRINT, SECRET

TRANSFERS = int(os.environ.get("PRFAAS_TRANSFERS", "1500"))
CONCURRENCY = 8


def random_shape(rng: Random) -> ModelShape:
    """One to three layers, paged or not, of tensors with rows from 2 to 1,024 bytes."""
    layers = []
    for _ in range(rng.randint(1, 3)):
        paged = rng.random() < 0.6
        tensors = tuple(
            CacheTensor("k", (rng.randint(1, 4), rng.randint(1, 64)), rng.choice(("float32", "bfloat16")))
            for _ in range(rng.randint(1, 2))
        )
        layers.append(LayerCache("gqa" if paged else "window", paged, tensors))
    return ModelShape("random", tuple(layers), max_context_tokens=1024)


def random_expectation(rng: Random) -> Expectation:
    shape = random_shape(rng)
    tokens = rng.randint(1, 60)
    held = rng.choice((0, 0, rng.randint(0, tokens)))
    return Expectation(shape, {"float32": shape}, FINGERPRINT, tokens, SECRET, held)


def random_objects(rng: Random, expectation: Expectation) -> Iterator[ObjectKey]:
    """All rows that are awaited, cut at random, no piece above the frame size."""
    for layer, tensor in expectation.tensors():
        rows = expectation.rows(layer, tensor)
        most = CONFIG.frame_bytes // expectation.shape.layers[layer].row_bytes(tensor)
        start = rows.start
        while start < rows.stop:
            end = min(rows.stop, start + rng.randint(1, min(most, 40)))
            yield ObjectKey(layer, tensor, start, end)
            start = end


class Transfer:
    """One transfer from what a seed says of it to both ends' reports."""

    def __init__(self, seed: int, receiver: Receiver, sender: Sender, address: str = "") -> None:
        """`address`: of a way to the receiver, if it is not the direct one."""
        rng = Random(seed)
        self._receiver = receiver
        self._expectation = random_expectation(rng)
        memory = Memory(self._expectation, staged=rng.random() < 0.3)
        self._content = {key: rng.randbytes(len(memory.at(key))) for key in random_objects(rng, self._expectation)}
        self._keys = rng.sample(list(self._content), len(self._content))
        self._expected: Expected = receiver.expect(memory, expectation=self._expectation)
        opening = Open(SECRET, FINGERPRINT, self._expectation.prompt_tokens, self._expectation.held_tokens, "float32")
        self._sent: Sent = sender.start(address or receiver.address, self._expected.transfer_id, opening)

    def run(self) -> None:
        outcome, error = self.end()
        assert isinstance(outcome, Received), outcome
        assert error is None
        assert outcome.bytes_raw == sum(len(data) for data in self._content.values())
        assert not self.wrong()

    def end(self) -> tuple[Outcome, PrfaasError | None]:
        """What it came to at the receiver, and at the sender."""
        for key in self._keys:
            self._sent.send_bytes(key, self._content[key])
        self._sent.finish()
        error = self._sent.result()
        self._receiver.inbox.close(self._expected.transfer_id, EPOCH, CancelledError("it has not come"))
        outcome = self._expected.result()
        assert self._expected.ended.empty()
        return outcome, error

    def wrong(self) -> list[ObjectKey]:
        """What does not lie in its place, unless the transfer failed."""
        if self._expected.transfer.error is not None:
            return []
        return [key for key, data in self._content.items() if self._expected.memory.at(key) != data]


def test_transfers_of_all_shapes_arrive_and_leave_nothing() -> None:
    config = CONFIG.model_copy(update={"min_streams": 4, "max_streams": 4})
    seeds = iter(range(TRANSFERS))
    lock = threading.Lock()
    done: list[int] = []
    with Receiver(config) as receiver, Sender(config) as sender:

        def work() -> None:
            while True:
                with lock:
                    seed = next(seeds, None)
                if seed is None:
                    return
                Transfer(seed, receiver, sender).run()
                done.append(seed)

        workers = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(done) == list(range(TRANSFERS))
        eventually(lambda: receiver.connections == sender.connections == 4)
        assert len(receiver.inbox) == 0
        assert receiver.count("prfaas_kv_corrupt_frames_total") == 0
        assert receiver.count("prfaas_kv_duplicate_bytes_total") == 0
