"""One new token of each of some sequences over paged keys and values, and the merge of what instances found."""

from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.kernels.case import Asked, Case, CpuCase, Make, Run
from prfaas_kernels.merge_partials import merge_partials
from prfaas_kernels.merge_partials.reference import merge_partials_reference
from prfaas_kernels.paged_decode_attention import paged_decode_attention, paged_decode_partial
from prfaas_kernels.paged_decode_attention.reference import paged_decode_attention_reference

_PAGE = 64
_ASKED = Asked(0.80)


@dataclass(frozen=True, slots=True)
class _Decode:
    sequences: int
    tokens: int
    heads: int
    groups: int
    key: int
    value: int
    gated: bool = False

    def inputs(self, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
        """Queries, pages of keys and of values, a shuffled block table, lengths."""
        each = -(-self.tokens // _PAGE)
        pages, heads = self.sequences * each, (self.groups, self.heads)
        q = torch.randn(self.sequences, heads[1], self.key, device=device, dtype=dtype)
        k = torch.randn(pages, _PAGE, heads[0], self.key, device=device, dtype=dtype)
        v = torch.randn(pages, _PAGE, heads[0], self.value, device=device, dtype=dtype)
        table = torch.randperm(pages).view(self.sequences, each).to(device)
        return q, k, v, table, torch.full((self.sequences,), self.tokens).to(device)

    def make(self, device: torch.device) -> Run:
        q, k, v, table, lengths = self.inputs(device)
        gate = torch.randn(*q.shape[:2], self.value, device=device, dtype=q.dtype) if self.gated else None
        return lambda: paged_decode_attention(q, k, v, table, lengths, self.key**-0.5, gate=gate)

    def make_dense(self, device: torch.device) -> Run:
        """torch's attention, whose keys and values are not in pages."""
        q, k, v, _, _ = self.inputs(device)
        k, v = (x.view(self.sequences, -1, *x.shape[2:]).transpose(1, 2).contiguous() for x in (k, v))
        return lambda: scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)

    def make_flashinfer(self, device: torch.device) -> Run:
        """FlashInfer's decode, planned beforehand."""
        flashinfer = import_module("flashinfer")
        q, k, v, table, _ = self.inputs(device)
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.empty(1 << 28, dtype=torch.uint8, device=device), "NHD", use_tensor_cores=True
        )
        each = torch.arange(self.sequences + 1, dtype=torch.int32) * table.shape[1]
        last = torch.full((self.sequences,), (self.tokens - 1) % _PAGE + 1, dtype=torch.int32)
        ids = table.flatten().int()
        wrapper.plan(each, ids, last, self.heads, self.groups, self.key, _PAGE, q_data_type=q.dtype)
        return lambda: wrapper.run(q, (k, v))

    def case(self, model: str) -> Case:
        per_token = self.groups * (self.key + self.value)
        per_query = self.heads * (self.key + self.value * (2 if self.gated else 1))
        peers: dict[str, Make] = {}
        if self.key == self.value and not self.gated:
            peers = {"SDPA, dense": self.make_dense, "flashinfer": self.make_flashinfer}
        return Case(
            "paged_decode_attention",
            f"{model}, {self.sequences} x {self.tokens // 1024}K",
            self.make,
            2 * self.sequences * (self.tokens * per_token + per_query),
            2 * self.sequences * self.tokens * self.heads * (self.key + self.value),
            peers,
            _ASKED,
        )


def _part(device: torch.device) -> Run:
    q, k, v, table, lengths = _Decode(1, 131072, 64, 4, 128, 128).inputs(device)
    return lambda: paged_decode_partial(q, k, v, table, lengths, 128**-0.5)


_INSTANCES = 3


def _merge(device: torch.device) -> Run:
    out = torch.randn(_INSTANCES, 32, 64, 128, device=device)
    peak, total = torch.randn(_INSTANCES, 32, 64, device=device), torch.rand(_INSTANCES, 32, 64, device=device)
    return lambda: merge_partials(out, peak, total, dtype=torch.bfloat16)


CASES = (
    _Decode(1, 131072, 64, 4, 128, 128).case("Qwen3-235B"),
    _Decode(32, 32768, 64, 4, 128, 128).case("Qwen3-235B"),
    _Decode(128, 8192, 64, 4, 128, 128).case("Qwen3-235B"),
    _Decode(32, 32768, 32, 2, 256, 256, gated=True).case("Qwen3.5"),
    _Decode(32, 32768, 64, 4, 192, 128).case("MiMo-V2-Flash"),
    Case(
        "paged_decode_attention",
        "Qwen3-235B, a part of 128K tokens",
        _part,
        2 * (131072 * 4 * 256 + 64 * 128) + 4 * 64 * 130,
        2 * 131072 * 64 * 256,
        asked=_ASKED,
    ),
    Case(
        "merge_partials",
        "Qwen3-235B, 32 queries, 3 instances",
        _merge,
        32 * 64 * (_INSTANCES * 4 * 130 + 2 * 128),
    ),
)


def _cpu_case() -> CpuCase:
    q, k, v, table, lengths = _Decode(4, 500, 8, 2, 64, 64).inputs(torch.device("cpu"), torch.float32)
    return CpuCase(
        "paged_decode_attention",
        "4 x 500 tokens, 8 / 2 heads, fp32",
        lambda: paged_decode_attention(q, k, v, table, lengths, 0.125),
        lambda: paged_decode_attention_reference(q, k, v, table, lengths, 0.125),
        tolerance=1e-5,
    )


def _cpu_merge_case() -> CpuCase:
    out, peak, total = torch.randn(3, 4, 8, 64), torch.randn(3, 4, 8), torch.rand(3, 4, 8) + 1
    return CpuCase(
        "merge_partials",
        "3 parts, 4 x 8 heads",
        lambda: merge_partials(out, peak, total, dtype=torch.float32),
        lambda: merge_partials_reference(out, peak, total),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(), _cpu_merge_case())
