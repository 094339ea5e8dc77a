"""A peer's two ends, and what one round of it measured."""

from typing import Protocol

import msgspec


class Sender(Protocol):
    """Its connection stays open between rounds."""

    def send(self, prompts: int) -> dict[str, float]:
        """Returns when the receiver has said that all prompts are there: wall seconds by step, where known."""
        ...


class Receiver(Protocol):
    """In another process than its sender."""

    address: str

    def expect(self, prompts: int) -> None:
        """Before the sender begins."""
        ...

    def wait(self) -> dict[str, float]:
        """Returns when all prompts are there: wall seconds by step, where known."""
        ...


class Round(msgspec.Struct, frozen=True):
    """Bytes moved from the first send to the receiver's word that all are there, and what it cost each process."""

    seconds: float
    num_bytes: int
    sender_cpu_s: float
    receiver_cpu_s: float
    sender_steps: dict[str, float] = {}
    """Wall seconds of the sending thread, by step."""
    receiver_steps: dict[str, float] = {}

    @property
    def gb(self) -> float:
        return self.num_bytes / 1e9

    @property
    def gb_s(self) -> float:
        return self.gb / self.seconds


class Cost(msgspec.Struct, frozen=True):
    """Receiver → sender after a round: its side of it, and the digest of its memory."""

    cpu_s: float
    steps: dict[str, float]
    digest: int
