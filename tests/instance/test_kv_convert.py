"""Conversion of cached values against torch's."""

import pytest
import torch

from prfaas.instance.kv_convert import convert


def bits(x: torch.Tensor) -> bytes:
    return bytes(x.view(torch.uint8).tolist())


def converted(data: bytes, to: torch.dtype, sizes: list[int]) -> bytes:
    own, sent = ("float32", "bfloat16") if to is torch.float32 else ("bfloat16", "float32")
    spans = [memoryview(bytearray(size * to.itemsize)) for size in sizes]
    convert(memoryview(data), sent, spans, own)  # type: ignore[arg-type]
    return b"".join(spans)


def test_every_bf16_becomes_the_same_fp32() -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    assert converted(bits(every), torch.float32, [1, 1000, 2**16 - 1001]) == bits(every.float())


@pytest.mark.parametrize("low", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_fp32_is_rounded_to_nearest_and_ties_to_even(low: int) -> None:
    """All signs, exponents and upper mantissas, with what is cut off at and around the half."""
    every = (torch.arange(2**16, dtype=torch.int64) << 16 | low).to(torch.int32).view(torch.float32)
    found = torch.frombuffer(bytearray(converted(bits(every), torch.bfloat16, [3, 2**16 - 3])), dtype=torch.bfloat16)
    expected = every.bfloat16()
    nan = expected.isnan()
    assert torch.equal(found.isnan(), nan)
    assert torch.equal(found[~nan].view(torch.int16), expected[~nan].view(torch.int16))
