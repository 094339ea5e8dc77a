"""What a router is told, apart from its weights."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Routing:
    """Each token takes `top_k` experts, all from its best `groups_per_token` of `num_groups` equal groups.

    `score` says what turns logits into scores; softmax is over all experts, chosen or not.
    """

    top_k: int
    num_groups: int
    groups_per_token: int
    renormalize: bool
    scaling: float
    score: Literal["sigmoid", "softmax"] = "sigmoid"
