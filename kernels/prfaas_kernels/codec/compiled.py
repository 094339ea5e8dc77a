"""Every format by the compiled kernels, which read and write pages and arenas themselves."""

import torch
from torch import Tensor

from prfaas_kernels.bytes_codec.sizes import ExactLayout
from prfaas_kernels.bytes_codec.structs import EXACT, INT8, STATE16
from prfaas_kernels.codec.state_span import StateValues
from prfaas_kernels.codec.token_rows import TokenRows
from prfaas_kernels.native import active, call


def fits(rows: TokenRows) -> bool:
    """Whether the kernels can do this: bf16 or fp32, on a CPU."""
    return active() and rows.tensor.is_cpu and rows.tensor.dtype in (torch.bfloat16, torch.float32)


def int8(kernel: str, rows: TokenRows, data: Tensor, num_scales: int) -> None:
    """Encodes `rows` into `data`, or decodes them from there, as `kernel` says."""
    call(kernel, INT8.pack(*_rows(rows), data.data_ptr(), data.data_ptr() + 4 * num_scales))


def state16(kernel: str, rows: StateValues, data: Tensor) -> None:
    """Encodes `rows` into `data`, or decodes them from there, as `kernel` says."""
    offsets = 0 if rows.offsets is None else rows.offsets.data_ptr()
    parts = data.data_ptr(), data.data_ptr() + 4 * rows.n
    call(kernel, STATE16.pack(rows.n, rows.width, rows.tensor.data_ptr(), offsets, *parts))


def encode_exact(rows: TokenRows, layout: ExactLayout, data: Tensor) -> int | None:
    """Writes all but the header. Returns the length, None if values would be no longer as they are."""
    length = _exact("encode_exact", rows, layout, data, layout.raw_bytes)
    return None if length < 0 else length


def decode_exact(rows: TokenRows, layout: ExactLayout, data: Tensor) -> int:
    """Writes `rows`. Returns in how many blocks codes and table disagree. The table's sum has been checked."""
    return _exact("decode_exact", rows, layout, data, data.shape[0])


def _exact(kernel: str, rows: TokenRows, layout: ExactLayout, data: Tensor, end: int) -> int:
    result = torch.zeros((), dtype=torch.int64)
    places = layout.blocks, layout.last_run, layout.codes_at, layout.table_at, layout.escapes_at, end
    call(kernel, EXACT.pack(*_rows(rows), *places, data.data_ptr(), result.data_ptr()))
    return int(result)


def _rows(rows: TokenRows) -> tuple[int, ...]:
    return (
        rows.tokens,
        rows.channels,
        rows.first,
        rows.page_tokens,
        rows.page_stride,
        rows.tensor.dtype is torch.bfloat16,
        rows.tensor.data_ptr(),
        0 if rows.page_ids is None else rows.page_ids.data_ptr(),
    )
