"""What a router is told, apart from its weights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Routing:
    """Each token takes `top_k` experts, all from its best `groups_per_token` of `num_groups` equal groups."""

    top_k: int
    num_groups: int
    groups_per_token: int
    renormalize: bool
    scaling: float
