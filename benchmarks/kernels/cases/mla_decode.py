"""One new token of each of some sequences over paged latents."""

from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from prfaas_kernels.mla import mla_decode, mla_reference

_PAGE = 64
_ASKED = Asked(0.80)
_MOST_HEADS = 64
"""With more, multiplications take longer than reading what is cached."""


@dataclass(frozen=True, slots=True)
class _Decode:
    sequences: int
    tokens: int
    heads: int
    nope: int = 128
    rope: int = 64
    value: int = 128
    rank: int = 512

    def inputs(self, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
        """Queries, pages of latents, a shuffled block table, lengths, what expands latents."""
        each = -(-self.tokens // _PAGE)
        pages = self.sequences * each
        q = torch.randn(self.sequences, self.heads, self.nope + self.rope, device=device, dtype=dtype)
        cache = torch.randn(pages, _PAGE, self.rank + self.rope, device=device, dtype=dtype)
        kv_up = torch.randn(self.heads, self.nope + self.value, self.rank, device=device, dtype=dtype)
        table = torch.randperm(pages).view(self.sequences, each).to(device)
        return q, cache, table, torch.full((self.sequences,), self.tokens).to(device), kv_up / self.rank**0.5

    def make(self, device: torch.device) -> Run:
        q, cache, table, lengths, kv_up = self.inputs(device)
        return lambda: mla_decode(q, cache, table, lengths, kv_up, self.rope)

    def make_flash_mla(self, device: torch.device) -> Run:
        """FlashMLA, whose queries are in latent space already and whose result stays there."""
        flash_mla = import_module("flash_mla")
        _, cache, table, lengths, _ = self.inputs(device)
        width, lens = self.rank + self.rope, lengths.int()
        q = torch.randn(self.sequences, 1, self.heads, width, device=device, dtype=cache.dtype)
        plan = flash_mla.get_mla_metadata(lens, self.heads, 1)
        ids, latents = table.int(), cache[:, :, None]
        scale = (self.nope + self.rope) ** -0.5
        return lambda: flash_mla.flash_mla_with_kvcache(q, latents, ids, lens, self.rank, *plan, softmax_scale=scale)

    def case(self, model: str) -> Case:
        width = self.rank + self.rope
        per_query = self.heads * (self.nope + self.rope + self.value)
        latents = self.sequences * self.tokens * width
        return Case(
            "mla",
            f"decode, {model}, {self.sequences} x {self.tokens // 1024}K",
            self.make,
            2 * (latents + self.sequences * per_query + self.heads * (self.nope + self.value) * self.rank),
            2
            * self.sequences
            * self.heads
            * (self.tokens * (width + self.rank) + (self.nope + self.value) * self.rank),
            {"FlashMLA": self.make_flash_mla},
            None if self.heads > _MOST_HEADS else _ASKED,
        )


CASES = (
    _Decode(1, 131072, 32).case("Kimi-Linear"),
    _Decode(32, 32768, 32).case("Kimi-Linear"),
    _Decode(128, 8192, 32).case("Kimi-Linear"),
    _Decode(32, 32768, 64).case("Ring-2.5"),
    _Decode(32, 32768, 128).case("128 heads as DeepSeek-V3"),
)


def _cpu_case() -> CpuCase:
    decode = _Decode(1, 500, 4, 32, 16, 32, 64)
    q, cache, table, lengths, kv_up = decode.inputs(torch.device("cpu"), torch.float32)
    return CpuCase(
        "mla",
        "decode, 500 tokens, 4 heads, fp32",
        lambda: mla_decode(q, cache, table, lengths, kv_up, decode.rope),
        lambda: mla_reference(q, cache[table[0]].flatten(0, 1)[: decode.tokens], kv_up, decode.rope),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
