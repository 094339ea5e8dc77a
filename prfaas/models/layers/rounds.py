"""The walk over the rounds of a batch. What happens in one is the layer's."""

from collections.abc import Callable

from torch import Tensor

from prfaas.models.batch_index import BatchIndex, Round


def in_rounds(index: BatchIndex, run: Callable[[Round], Tensor]) -> Tensor:
    """`run` of each round, [T, ...] of which it wrote the rows of its spans: the first's, with the others' rows."""
    first, *others = index.rounds
    out = run(first)
    for one in others:
        made = run(one)
        for start, stop in one.spans.rows:
            out[start:stop] = made[start:stop]
    return out
