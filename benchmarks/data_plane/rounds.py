"""A peer's two ends, and what one round of it measured."""

import resource
from typing import Protocol

import msgspec


class Sent(msgspec.Struct, frozen=True):
    """The sender's side of a round."""

    seconds: float
    """From the first send to the receiver's word that all prompts are there."""
    cpu_s: float
    bytes_again: int = 0
    """Payload bytes of what had been sent before."""


class Sender(Protocol):
    """Its connections stay open between rounds."""

    def send(self, prompts: int) -> Sent:
        """Returns when the receiver has said that all prompts are there."""
        ...

    def digest(self) -> int | None:
        """Of the memory that it sends; None if the receiver cannot compute the same."""
        ...


class Receiver(Protocol):
    """In another process than its sender."""

    address: str

    def expect(self, prompts: int) -> None:
        """Before the sender begins."""
        ...

    def wait(self) -> None:
        """Returns when all prompts are there, or at once if only the sender knows."""
        ...

    def cpu_s(self) -> float:
        """What its process, or its program, has spent so far."""
        ...

    def digest(self) -> int | None:
        """Of the memory that it receives into."""
        ...


class Round(msgspec.Struct, frozen=True):
    """Bytes moved in one round, and what it cost each end."""

    num_bytes: int
    sent: Sent
    receiver_cpu_s: float

    @property
    def gb(self) -> float:
        return self.num_bytes / 1e9

    @property
    def gbit_s(self) -> float:
        return 8 * self.gb / self.sent.seconds

    @property
    def cpu_s_gb(self) -> float:
        """Both ends together."""
        return (self.sent.cpu_s + self.receiver_cpu_s) / self.gb


def process_cpu_s() -> float:
    """User and system time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
