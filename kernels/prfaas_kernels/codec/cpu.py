"""The codec on a CPU: by compiled kernels where there are any, else in torch's ops on gathered rows.

An encoder takes a dense tensor, or pages and which tokens of them; a decoder writes into either.
"""

import torch
from torch import Tensor

from prfaas_kernels import native
from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import (
    BLOCK_TOKENS,
    GROUP_CHANNELS,
    HEADER_BYTES,
    ExactLayout,
    int8_channel_bytes,
    int8_token_bytes,
    state16_bytes,
)
from prfaas_kernels.codec import compiled, exact, int8, state16
from prfaas_kernels.codec.checks import check_bytes, check_exact, check_size
from prfaas_kernels.codec.state_span import StateSpan, StateValues
from prfaas_kernels.codec.token_rows import PageSpan, TokenRows


def encode_int8_channel(values: Tensor, span: PageSpan | None = None) -> Tensor:
    """`values` [n, *dims] bf16 or fp32, or the tokens `span` of pages [N, page_tokens, *dims], in `int8_channel`.

    Returns uint8 [int8_channel_bytes(n, dims)]. Values that share a scale with a NaN or an infinity are decoded as NaN.
    """
    rows = TokenRows.of(values, span)
    if not compiled.fits(rows):
        return int8.encode_channel(rows.gather())
    data = torch.empty(int8_channel_bytes(rows.tokens, (rows.channels,)), dtype=torch.uint8)
    compiled.int8("encode_int8_channel", rows, data, -(-rows.tokens // BLOCK_TOKENS) * rows.channels)
    return data


def decode_int8_channel(data: Tensor, out: Tensor, span: PageSpan | None = None) -> None:
    """Writes what `encode_int8_channel` made of as many tokens, to `out` [n, *dims] or the tokens `span` of pages.

    Raises CodecError if `data` has another size.
    """
    rows = TokenRows.of(out, span)
    check_size(data, int8_channel_bytes(rows.tokens, (rows.channels,)))
    if compiled.fits(rows):
        compiled.int8("decode_int8_channel", rows, data, -(-rows.tokens // BLOCK_TOKENS) * rows.channels)
    else:
        rows.scatter(int8.decode_channel(data, rows.tokens, rows.channels).to(out.dtype))


def encode_int8_token(values: Tensor, span: PageSpan | None = None) -> Tensor:
    """As `encode_int8_channel`, in `int8_token`: uint8 [int8_token_bytes(n, dims)]."""
    rows = TokenRows.of(values, span)
    if not compiled.fits(rows):
        return int8.encode_token(rows.gather())
    data = torch.empty(int8_token_bytes(rows.tokens, (rows.channels,)), dtype=torch.uint8)
    compiled.int8("encode_int8_token", rows, data, rows.tokens * -(-rows.channels // GROUP_CHANNELS))
    return data


def decode_int8_token(data: Tensor, out: Tensor, span: PageSpan | None = None) -> None:
    """As `decode_int8_channel`, of what `encode_int8_token` made."""
    rows = TokenRows.of(out, span)
    check_size(data, int8_token_bytes(rows.tokens, (rows.channels,)))
    if compiled.fits(rows):
        compiled.int8("decode_int8_token", rows, data, rows.tokens * -(-rows.channels // GROUP_CHANNELS))
    else:
        rows.scatter(int8.decode_token(data, rows.tokens, rows.channels).to(out.dtype))


def encode_exact(values: Tensor, span: PageSpan | None = None) -> tuple[Tensor, Tensor]:
    """`values` [n, *dims] bf16, or the tokens `span` of pages [N, page_tokens, *dims], in `exact`.

    Returns a buffer uint8 [exact_most_bytes(n, dims)] and how many of its bytes count, an int64 scalar; nothing is said
    of the others. Raises CodecError if values are not bf16.
    """
    check_exact(values)
    rows = TokenRows.of(values, span)
    layout = ExactLayout(rows.values)
    data = torch.empty(layout.raw_bytes, dtype=torch.uint8)
    if not compiled.fits(rows):
        found = exact.encode(rows.gather().flatten().view(torch.int16))
        data[: found.shape[0]] = found
        return data, torch.tensor(found.shape[0])
    length = compiled.encode_exact(rows, layout, data) if layout.can_pay else None
    if length is None:
        data[:HEADER_BYTES] = exact.header(exact.RAW, layout.values, 0)
        data[HEADER_BYTES:].view(torch.bfloat16).copy_(rows.gather().flatten())
    else:
        data[:HEADER_BYTES] = exact.header(exact.PACKED, layout.values, length - layout.escapes_at)
    return data, torch.tensor(layout.raw_bytes if length is None else length)


def decode_exact(data: Tensor, out: Tensor, span: PageSpan | None = None) -> Tensor:
    """Writes what `encode_exact` made of as many tokens (the bytes that count), to `out` or the tokens `span` of pages.

    Returns an int32 scalar: 0 if `data` is consistent. On a CPU CodecError is raised if not; on a GPU only for a wrong
    size, and the caller must look at the scalar. What inconsistent bytes leave in those tokens is undefined.
    """
    check_bytes(data)
    check_exact(out)
    rows = TokenRows.of(out, span)
    layout = ExactLayout(rows.values)
    if not compiled.fits(rows):
        rows.scatter(exact.decode(data, layout.values).view(torch.bfloat16).view(rows.tokens, rows.channels))
    elif exact.check_header(data, layout) is None:
        rows.scatter(data[HEADER_BYTES:].clone().view(torch.bfloat16).view(rows.tokens, rows.channels))
    else:
        exact.check_table(data, layout)
        if compiled.decode_exact(rows, layout, data):
            raise CodecError(exact.WRONG_COUNT)
    return torch.zeros((), dtype=torch.int32)


def encode_state16(values: Tensor, span: StateSpan | None = None) -> tuple[Tensor, Tensor]:
    """`values` [n, *dims] fp32, or the rows `span` of an arena [bytes] uint8, in `state16`.

    Returns uint8 [state16_bytes(n, dims)], and a bool scalar: whether all values are finite. If not, send them as they
    are: a row with a NaN or an infinity is decoded as NaN.
    """
    rows = StateValues.of(values, span)
    if native.active() and values.is_cpu:
        data = torch.empty(state16_bytes(rows.n, (rows.width,)), dtype=torch.uint8)
        compiled.state16("encode_state16", rows, data)
    else:
        data = state16.encode(rows.gather())
    return data, ~state16.units(data, rows.n).isnan().any()


def decode_state16(data: Tensor, out: Tensor, span: StateSpan | None = None) -> None:
    """Writes what `encode_state16` made of as many rows, to `out` [n, *dims] fp32 or the rows `span` of an arena.

    Raises CodecError if `data` has another size.
    """
    rows = StateValues.of(out, span)
    check_size(data, state16_bytes(rows.n, (rows.width,)))
    if native.active() and out.is_cpu:
        compiled.state16("decode_state16", rows, data)
    else:
        rows.scatter(state16.decode(data, rows.n, rows.width))
