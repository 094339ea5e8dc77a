"""Who sends KV: what an instance says of itself when it connects to a receiver."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The sending instance."""

    instance_id: str
    cluster: str
