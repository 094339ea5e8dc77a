"""The walk over the spans of a batch. What happens in one is the caller's."""

from collections.abc import Callable

from torch import Tensor

from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows


def in_spans(
    prefill: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Tensor, ...], states: StateRows, spans: Spans
) -> Tensor:
    """`prefill(*inputs of a span, state)` for each, from states that move on; the third input is the values.

    Returns outputs [T, H, V] in the dtype of the values; rows outside of all spans are not written.
    """
    values = inputs[2]
    parts = []
    for i, ((start, stop), context) in enumerate(zip(spans.rows, spans.context_lens, strict=True)):
        state, out = states.load(i, context), values[start:stop]
        if stop > start:
            out, state = prefill(*(x[start:stop] for x in inputs), state)
        states.store(i, state)
        parts.append(out.to(values.dtype))
    return spans.join(parts, values.shape[0])
