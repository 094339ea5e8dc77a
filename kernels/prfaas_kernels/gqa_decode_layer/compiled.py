"""The decode of an attention layer by its compiled kernel."""

from struct import Struct

import torch
from torch import Tensor

from prfaas_kernels.gqa_decode_layer.layer import GqaHeads
from prfaas_kernels.native import NOTHING, active, call, numbers

_LANES = 16
_MAX_SPLITS, _MIN_SPLIT_TOKENS = 64, 512  # parts that a sequence is cut in: to share out a long one among threads
_DTYPES = (torch.bfloat16, torch.float32)
_GQA_DECODE = Struct("26q6q5q2d")  # struct GqaDecode of gqa_decode.cpp


def fits(
    rows: Tensor,
    layer: GqaHeads,
    angles: tuple[Tensor, Tensor] | None,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
) -> bool:
    """Whether the kernel can do this: one dtype, heads dense within a token."""
    dtype = rows.dtype
    if not (active() and dtype in _DTYPES and rows.is_cpu and rows.shape[0]):
        return False
    same = dtype is k_pages.dtype is v_pages.dtype
    dense = rows.stride(1) == block_table.stride(1) == lengths.stride(0) == 1
    tables = angles is None or (angles[0].is_contiguous() and angles[1].is_contiguous())
    by_token = k_pages.stride()[2:] == (layer.key, 1) and v_pages.stride()[2:] == (layer.value, 1)
    return same and dense and tables and by_token


def gqa_decode(
    rows: Tensor,
    layer: GqaHeads,
    angles: tuple[Tensor, Tensor] | None,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
) -> Tensor:
    """As `gqa_decode_layer`, for arguments that `fits` accepts."""
    sequences, heads, dtype, page_tokens = rows.shape[0], layer.heads, rows.dtype, k_pages.shape[1]
    splits, split_tokens = _splits(block_table.shape[1] * page_tokens)
    padded_key = -(-layer.key // _LANES) * _LANES
    queries, parts = sequences * heads * padded_key, sequences * heads * splits
    memory = torch.empty(queries + parts * (layer.value + 2), dtype=torch.float32)
    scratch = memory.data_ptr()
    out = torch.empty(sequences, heads * layer.value, dtype=dtype)
    arguments = _GQA_DECODE.pack(
        sequences,
        heads,
        layer.groups,
        layer.key,
        layer.value,
        dtype is torch.bfloat16,
        rows.stride(0),
        layer.gated,
        0 if angles is None else angles[0].shape[1],
        layer.interleaved,
        page_tokens,
        block_table.stride(0),
        *k_pages.stride()[:2],
        *v_pages.stride()[:2],
        splits,
        split_tokens,
        padded_key,
        rows.data_ptr(),
        k_pages.data_ptr(),
        v_pages.data_ptr(),
        block_table.data_ptr(),
        lengths.data_ptr(),
        *((0, 0) if angles is None else (angles[0].data_ptr(), angles[1].data_ptr())),
        *(NOTHING if layer.q_norm is None else numbers(layer.q_norm)),
        *(NOTHING if layer.k_norm is None else numbers(layer.k_norm)),
        *(NOTHING if layer.sinks is None else numbers(layer.sinks)),
        scratch,
        scratch + 4 * queries,
        scratch + 4 * (queries + parts * layer.value),
        scratch + 4 * (queries + parts * (layer.value + 1)),
        out.data_ptr(),
        layer.eps,
        layer.scale,
    )
    call("gqa_decode", arguments)
    return out


def _splits(tokens: int) -> tuple[int, int]:
    """In how many parts of how many tokens sequences of up to `tokens` are cut."""
    each = max(_MIN_SPLIT_TOKENS, -(-tokens // _MAX_SPLITS))
    return -(-tokens // each), each
