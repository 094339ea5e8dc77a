"""Who receives: what WELCOME tells a sender of this process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """This instance in its present life."""

    instance_id: str
    cluster: str
    epoch: int
