"""The codec on what production models cache of long prompts, in shuffled pages."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from benchmarks.kernels.case import Asked, Case, CpuCase, Make, Run
from prfaas_kernels import codec
from prfaas_kernels.bytes_codec import sizes
from prfaas_kernels.codec import PageSpan, StateSpan, cpu

_PAGE_TOKENS = 64
_ASKED = Asked(0.60)
_EXACT_RATIO = 1.42
"""Of values of a normal distribution."""
_LATENTS = "Kimi-Linear latents, 128K tokens", 128 << 10, (576,)
_KEYS = "MiniMax keys, 64K tokens", 64 << 10, (8, 128)
_MIMO_KEYS = "MiMo keys, 64K tokens", 64 << 10, (4, 192)
_MIMO_VALUES = "MiMo values, 64K tokens", 64 << 10, (4, 128)
_STATE_ROWS, _STATE_DIMS = 4 * 20 * 32, (128, 128)

_Size = tuple[str, int, tuple[int, ...]]


def _pages(tokens: int, dims: tuple[int, ...], device: torch.device) -> tuple[Tensor, PageSpan]:
    count = tokens // _PAGE_TOKENS
    pages = torch.randn(count, _PAGE_TOKENS, *dims, device=device, dtype=torch.bfloat16)
    return pages, PageSpan(torch.randperm(count).to(device), 0, tokens)


def _encode(encode: Callable[[Tensor, PageSpan], object], size: _Size) -> Make:
    def make(device: torch.device) -> Run:
        pages, span = _pages(*size[1:], device)
        return lambda: encode(pages, span)

    return make


def _decode(
    encode: Callable[[Tensor, PageSpan], Tensor], decode: Callable[[Tensor, Tensor, PageSpan], object], size: _Size
) -> Make:
    def make(device: torch.device) -> Run:
        pages, span = _pages(*size[1:], device)
        data, out = encode(pages, span), torch.empty_like(pages)
        return lambda: decode(data, out, span)

    return make


def _exactly(pages: Tensor, span: PageSpan) -> Tensor:
    data, length = codec.encode_exact(pages, span)
    return data[: int(data.shape[0] / _EXACT_RATIO) if data.is_meta else int(length)]


def _arena(device: torch.device) -> tuple[Tensor, StateSpan]:
    row_bytes = 4 * prod(_STATE_DIMS)
    values = torch.randn(_STATE_ROWS, *_STATE_DIMS, device=device)
    return values.view(-1).view(torch.uint8), StateSpan(torch.randperm(_STATE_ROWS).to(device) * row_bytes, _STATE_DIMS)


def _encode_states(device: torch.device) -> Run:
    arena, span = _arena(device)
    return lambda: codec.encode_state16(arena, span)


def _decode_states(device: torch.device) -> Run:
    arena, span = _arena(device)
    data, _ = codec.encode_state16(arena, span)
    return lambda: codec.decode_state16(data, arena, span)


def _case(name: str, size: _Size, make: Make, encoded_bytes: int) -> Case:
    moved = 2 * size[1] * prod(size[2]) + encoded_bytes
    return Case("codec", f"{name}, {size[0]}", make, moved, asked=_ASKED)


def _cases() -> tuple[Case, ...]:
    channel, token, exact = sizes.int8_channel_bytes, sizes.int8_token_bytes, sizes.exact_most_bytes
    by_channel = codec.encode_int8_channel, codec.decode_int8_channel
    by_token = codec.encode_int8_token, codec.decode_int8_token
    made = []
    for name, formats, count, shape in (
        ("int8_channel", by_channel, channel, _KEYS),
        ("int8_channel", by_channel, channel, _MIMO_KEYS),
        ("int8_token", by_token, token, _MIMO_VALUES),
        ("int8_token", by_token, token, _LATENTS),
    ):
        encoded = count(*shape[1:])
        made.append(_case(f"encode_{name}", shape, _encode(formats[0], shape), encoded))
        made.append(_case(f"decode_{name}", shape, _decode(*formats, shape), encoded))
    for shape in (_KEYS, _LATENTS):
        encoded = int(exact(*shape[1:]) / _EXACT_RATIO)
        made.append(_case("encode_exact", shape, _encode(codec.encode_exact, shape), encoded))
        made.append(_case("decode_exact", shape, _decode(_exactly, codec.decode_exact, shape), encoded))
    states = 6 * _STATE_ROWS * prod(_STATE_DIMS)
    for name, make in (("encode", _encode_states), ("decode", _decode_states)):
        made.append(Case("codec", f"{name}_state16, Kimi-Linear states of 4 sequences", make, states, asked=_ASKED))
    return tuple(made)


CASES = _cases()


def _cpu_case(name: str, run: Callable[[], Tensor], reference: Callable[[], bytes]) -> CpuCase:
    def wanted() -> Tensor:
        return torch.frombuffer(bytearray(reference()), dtype=torch.uint8).float()

    return CpuCase("codec", f"encode_{name}", lambda: run().float(), wanted, tolerance=0.0)


def _cpu_cases() -> tuple[CpuCase, ...]:
    values, states = torch.randn(128, 576).bfloat16(), torch.randn(8, 64, 64)
    length = len(codec.encode_exact_reference(values))
    channel, token = codec.encode_int8_channel_reference, codec.encode_int8_token_reference
    exact, state16 = codec.encode_exact_reference, codec.encode_state16_reference
    return (
        _cpu_case("int8_channel, 128 x 576", lambda: cpu.encode_int8_channel(values), lambda: channel(values)),
        _cpu_case("int8_token, 128 x 576", lambda: cpu.encode_int8_token(values), lambda: token(values)),
        _cpu_case("exact, 128 x 576", lambda: cpu.encode_exact(values)[0][:length], lambda: exact(values)),
        _cpu_case("state16, 8 x 64 x 64", lambda: cpu.encode_state16(states)[0], lambda: state16(states)),
    )


CPU_CASES = _cpu_cases()
