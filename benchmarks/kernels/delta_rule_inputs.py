"""Inputs of the delta rules at the sizes of models that have them; knows no op."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    key_heads: int
    heads: int
    by_channel: bool
    size: int = 128
    """Of heads, of keys as of values."""

    @property
    def widths(self) -> list[int]:
        """Channels of q, k and v."""
        return [self.key_heads * self.size, self.key_heads * self.size, self.heads * self.size]

    @property
    def decays(self) -> int:
        """Of a token."""
        return self.heads * self.size if self.by_channel else self.heads

    @property
    def state_bytes(self) -> int:
        """Of a sequence."""
        return 4 * self.heads * self.size**2


KIMI_LINEAR = Model("Kimi-Linear", 32, 32, by_channel=True)
QWEN3_NEXT = Model("Qwen3-Next", 16, 32, by_channel=False)
QWEN3_5 = Model("Qwen3.5-397B", 16, 64, by_channel=False)

BATCHES = {
    "4K tokens": (4096,),
    "32K tokens": (32_768,),
    "128K tokens": (131_072,),
    "16 prompts of 512": (512,) * 16,
}
"""Lengths of prompts."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Of some lengths, one after another."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    beta: Tensor
    states: StateRows
    spans: Spans

    @classmethod
    def of(
        cls,
        model: Model,
        lens: tuple[int, ...],
        device: torch.device,
        dtype: torch.dtype = torch.bfloat16,
        context: int = 1,
    ) -> "Prompts":
        """Each begins after `context` tokens of its sequence: from zeros, however often it runs, if that is 0."""
        tokens = sum(lens)
        mixed = torch.randn(tokens, sum(model.widths), device=device, dtype=dtype)
        q, k, v = (torch.unflatten(x, 1, (-1, model.size)) for x in torch.split(mixed, model.widths, dim=1))
        log_decay = functional.logsigmoid(torch.randn(tokens, model.decays, device=device) + 3)
        if model.by_channel:
            log_decay = torch.unflatten(log_decay, 1, (model.heads, model.size))
        beta = torch.rand(tokens, model.heads, device=device)
        spans = Spans.packed(lens, (context,) * len(lens), device)
        return cls(q, k, v, log_decay, beta, states(model, len(lens), device), spans)


def for_fla(model: Model, lens: tuple[int, ...], device: torch.device) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """The same work as flash-linear-attention's chunked rules take it: q, k, v, log decays, strengths; and options."""
    x = Prompts.of(model, lens, device)
    ends = torch.tensor([0, *lens]).cumsum(0).to(device)
    options = {
        "initial_state": torch.zeros(len(lens), model.heads, model.size, model.size, device=device),
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": True,
        "cu_seqlens": ends if len(lens) > 1 else None,
    }
    return (*(part[None].contiguous() for part in (x.q, x.k, x.v)), x.log_decay[None], x.beta[None]), options


def states(model: Model, sequences: int, device: torch.device) -> StateRows:
    """Zeros, which move on in place."""
    size = 4 * model.size**2
    rows = (torch.arange(sequences * model.heads).view(sequences, -1) * size).to(device)
    arena = torch.zeros(sequences * model.state_bytes, dtype=torch.uint8, device=device)
    return StateRows(arena, rows, rows, ((0, model.size**2),), (model.size, model.size), torch.float32)


def bytes_moved(model: Model, lens: tuple[int, ...]) -> int:
    """Of bfloat16 rows in and out, decays and write strengths in fp32, and states, all once."""
    rows = 2 * (sum(model.widths) + model.heads * model.size) + 4 * (model.decays + model.heads)
    return sum(lens) * rows + 2 * len(lens) * model.state_bytes


def operations(model: Model, lens: tuple[int, ...]) -> int:
    """Each token recalls from, writes to and reads a state of each head."""
    return sum(lens) * model.heads * 3 * 2 * model.size**2
