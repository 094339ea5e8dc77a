"""How many weights a model has, and how many of them tokens touch. Knows no hardware and no bytes.

Counted from the list that the engine loads a checkpoint by, so that nothing is told twice.
"""

import math
from collections import Counter
from dataclasses import dataclass
from math import prod

from prfaas.core.decoder_spec import DecoderSpec, Experts
from prfaas.models.parts import mlp_parts, parts

ExpertChoice = tuple[int, int]
"""(experts, of which each token takes)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a whole model, in numbers of parameters."""

    embedding: int
    """A row of it for each token; all of it where it is the head, too."""
    head: int
    """What turns the last position into logits: multiplied once in a prefill, at every step in a decode."""
    every_token: int
    """Of all layers, that every token is multiplied with: mixers, dense MLPs, routers, shared experts."""
    routed: tuple[tuple[ExpertChoice, int], ...] = ()
    """Routed experts of all layers together, by how they are chosen."""
    tied: bool = False
    """The head is the embedding, and takes no memory of its own."""

    @property
    def total(self) -> int:
        own_head = 0 if self.tied else self.head
        return self.embedding + own_head + self.every_token + sum(size for _, size in self.routed)

    @property
    def per_token(self) -> float:
        """Of the layers, that one token is multiplied with."""
        return self.every_token + sum(size * taken / experts for (experts, taken), size in self.routed)

    def touched(self, tokens: float) -> float:
        """What a step reads that carries so many tokens, each of another request: of routed experts the expected
        number of distinct ones, n·(1 − (1 − k/n)^tokens), as if each token chose evenly and for itself."""
        shares = ((size, math.pow(1 - taken / experts, tokens)) for (experts, taken), size in self.routed)
        return self.every_token + self.head + sum(size * (1 - missed) for size, missed in shares)


def weights_of(spec: DecoderSpec) -> Weights:
    """Counts the weights of the model that `spec` describes."""
    table = spec.vocab_size * spec.hidden_size
    routed: Counter[ExpertChoice] = Counter()
    for layer in spec.layers:
        if isinstance(layer.mlp, Experts):
            routed[layer.mlp.num_experts, layer.mlp.per_token] += _routed(layer.mlp, spec.hidden_size)
    ends = {"embedding", "head"}
    layers = sum(prod(part.shape) for part in parts(spec) if part.name not in ends)
    return Weights(table, table, layers - routed.total(), tuple(sorted(routed.items())), spec.tie_embeddings)


def _routed(experts: Experts, hidden: int) -> int:
    return sum(prod(part.shape) for part in mlp_parts(experts, hidden) if part.name in ("gate_up", "down"))
