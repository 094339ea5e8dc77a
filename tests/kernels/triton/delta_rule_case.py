"""Inputs of either delta rule for a batch of spans, and what its reference makes of them; all else is NaN."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prfaas_kernels.gated_delta_rule import gdn_reference
from prfaas_kernels.gated_delta_rule.triton import gated_delta_rule
from prfaas_kernels.kimi_delta_attention import kda_reference
from prfaas_kernels.kimi_delta_attention.triton import kimi_delta_attention
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from tests.kernels.error_ratio import error_ratio
from tests.kernels.scattered_rows import scattered_rows

SPARE = 16
"""Columns on either side of what is projected."""


@dataclass(frozen=True)
class Rule:
    op: Callable[..., Tensor]
    reference: Callable[..., tuple[Tensor, Tensor]]
    by_channel: bool


RULES = {
    "per head": Rule(gated_delta_rule, gdn_reference, by_channel=False),
    "per channel": Rule(kimi_delta_attention, kda_reference, by_channel=True),
}


@dataclass(frozen=True)
class DeltaRuleCase:
    rule: Rule
    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    beta: Tensor
    before: Tensor
    """[S, H, K, V]"""
    states: StateRows
    spans: Spans

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.log_decay, self.beta

    def run(self) -> Tensor:
        return self.rule.op(*self.inputs, self.states, self.spans)

    def after(self) -> Tensor:
        """[S, H, K, V] as written."""
        return replace(self.states, read=self.states.written).load_all()

    def expected(self) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and state of each span by the reference."""
        outs, states = [], []
        for (start, stop), state in zip(self.spans.rows, self.before, strict=True):
            if stop > start:
                out, state = self.rule.reference(*(x[start:stop] for x in self.inputs), state)
                outs.append(out)
            states.append(state)
        return outs, states

    def assert_right(self) -> None:
        """Outputs and states agree with the reference; rows outside of all spans are not written."""
        outs, states = self.expected()
        out = self.run()
        assert out.dtype == self.v.dtype
        rows = torch.zeros(len(self.v), dtype=torch.bool, device=out.device)
        for start, stop in self.spans.rows:
            rows[start:stop] = True
        assert out[~rows].isnan().all()
        found = torch.cat([out[start:stop] for start, stop in self.spans.rows])
        assert error_ratio(found, torch.cat(outs)) < tolerance(out)
        assert error_ratio(self.after(), torch.stack(states)) < tolerance(out)


def tolerance(x: Tensor) -> float:
    """Of a result computed in the dtype of `x`: products of fp32 are of 11 bits on a GPU, and exact interpreted."""
    if x.dtype is torch.bfloat16:
        return 1e-2
    return 5e-3 if x.is_cuda else 2e-6


def make_case(
    name: str,
    device: torch.device,
    rows: tuple[tuple[int, int], ...],
    *,
    heads: tuple[int, int] = (1, 2),
    sizes: tuple[int, int] = (16, 24),
    contexts: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    elsewhere: bool = True,
) -> DeltaRuleCase:
    """Of `heads` (keys', values') and their `sizes`; q, k and v are slices of one projection, as are decays and betas.

    Rows outside of spans, and states of spans without context, are NaN.
    """
    rule = RULES[name]
    (key_heads, value_heads), (key, value) = heads, sizes
    key_heads = value_heads if rule.by_channel else key_heads
    tokens = max(stop for _, stop in rows) + 3
    contexts = contexts or (7,) * len(rows)
    decays = value_heads * key if rule.by_channel else value_heads
    widths = [SPARE, key_heads * key, key_heads * key, value_heads * value, SPARE]
    projected = torch.full((tokens, sum(widths)), torch.nan)
    gates = torch.full((tokens, decays + value_heads + SPARE), torch.nan)
    for start, stop in rows:
        projected[start:stop, SPARE:-SPARE] = torch.randn(stop - start, sum(widths) - 2 * SPARE)
        gates[start:stop, SPARE:] = torch.rand(stop - start, decays + value_heads)
    q, k, v = torch.split(projected.to(device, dtype), widths, dim=1)[1:4]
    log_decay, beta = torch.split(gates.to(device)[:, SPARE:], [decays, value_heads], dim=1)
    q, k = (torch.unflatten(x, 1, (key_heads, key)) for x in (q, k))
    before = torch.randn(len(rows), value_heads, key, value, device=device)
    new = torch.tensor([context == 0 for context in contexts], device=device)[:, None, None, None]
    states = scattered_rows(before.masked_fill(new, torch.nan), elsewhere)
    return DeltaRuleCase(
        rule,
        q,
        k,
        torch.unflatten(v, 1, (value_heads, value)),
        -torch.unflatten(log_decay, 1, (value_heads, key)) if rule.by_channel else -log_decay,
        beta,
        before.masked_fill(new, 0.0),
        states,
        Spans.of(rows, contexts, device),
    )
