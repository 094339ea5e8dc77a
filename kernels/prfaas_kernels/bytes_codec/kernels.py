"""The codecs over plain memory, by compiled kernels: one thread a call, and no interpreter's lock while it runs.

The bytes are those of `prfaas_kernels.codec`, which needs torch and is specified in its README.
"""

from array import array
from collections.abc import Callable
from ctypes import CDLL, c_char_p, c_int
from pathlib import Path

import numpy as np

from prfaas_kernels.bytes_codec.addresses import address_of, aligned
from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.places import StatePlaces, TokenPlaces
from prfaas_kernels.bytes_codec.sizes import (
    BLOCK_TOKENS,
    GROUP_CHANNELS,
    ExactLayout,
    int8_channel_bytes,
    int8_token_bytes,
    state16_bytes,
)
from prfaas_kernels.bytes_codec.structs import EXACT, EXACT_HEADER, INT8, STATE16
from prfaas_kernels.toolchain import load

_MAGIC, _VERSION, _CODED = b"EX", 1, 0
_KERNELS = ("int8_channel", "int8_token", "exact", "state16")
_ONE_THREAD = 1


class BytesCodec:
    """May be called from many threads at once.

    Encoders write into `into` and return how many bytes count, or None where that would not be fewer than the values
    have, or more than there is room for. Decoders raise CodecError, and leave undefined values, where the bytes are
    not what an encoder makes of so many values.
    """

    def __init__(self, library: CDLL) -> None:
        self._run: dict[str, Callable[[bytes, int], object]] = {}
        for name in (f"{way}_{codec}" for way in ("encode", "decode") for codec in _KERNELS):
            found = library[name]
            found.argtypes, found.restype = (c_char_p, c_int), None
            self._run[name] = found

    @classmethod
    def open(cls, directory: Path | None = None, compiler: str = "g++") -> "BytesCodec":
        """Compiles the kernels on first use. Raises BuildError where that is impossible."""
        return cls(load(directory, compiler))

    def encode_int8_channel(self, places: TokenPlaces, into: memoryview) -> int | None:
        return self._encode_int8("encode_int8_channel", places, into, *_channel_sizes(places))

    def encode_int8_token(self, places: TokenPlaces, into: memoryview) -> int | None:
        return self._encode_int8("encode_int8_token", places, into, *_token_sizes(places))

    def decode_int8_channel(self, data: memoryview, places: TokenPlaces) -> None:
        self._decode_int8("decode_int8_channel", data, places, *_channel_sizes(places))

    def decode_int8_token(self, data: memoryview, places: TokenPlaces) -> None:
        self._decode_int8("decode_int8_token", data, places, *_token_sizes(places))

    def encode_exact(self, places: TokenPlaces, into: memoryview) -> int | None:
        """Of bf16 values."""
        assert places.bf16, "exact is for bf16"
        layout = ExactLayout(places.values)
        room = min(places.raw_bytes, into.nbytes)
        if layout.escapes_at >= room:
            return None
        length = self._exact("encode_exact", places, layout, into, room)
        if length < 0:
            return None
        EXACT_HEADER.pack_into(into, 0, _MAGIC, _VERSION, _CODED, layout.values, length - layout.escapes_at, 0)
        return length

    def decode_exact(self, data: memoryview, places: TokenPlaces) -> None:
        """Takes coded values alone: values as they are need no codec."""
        assert places.bf16, "exact is for bf16"
        layout = ExactLayout(places.values)
        escapes = data.nbytes - layout.escapes_at
        if escapes < 0 or data.nbytes >= layout.raw_bytes:
            raise CodecError(f"{layout.values} values are not coded in {data.nbytes} bytes")
        if EXACT_HEADER.unpack_from(data) != (_MAGIC, _VERSION, _CODED, layout.values, escapes, 0):
            raise CodecError(f"{bytes(data[: EXACT_HEADER.size]).hex()} is not the header of {layout.values} values")
        table = np.frombuffer(data, "<u4", layout.blocks, layout.table_at)
        counted = int((table & 0xFFFF).sum())
        if counted != escapes:
            raise CodecError(f"the table has {counted} escapes, the header {escapes}")
        if self._exact("decode_exact", places, layout, data, data.nbytes):
            raise CodecError("a block has not as many escapes as its entry in the table says")

    def encode_state16(self, places: StatePlaces, into: memoryview) -> int | None:
        """None also where a value is not finite: such a state must go as it is."""
        size = state16_bytes(places.rows, (places.width,))
        if size >= places.raw_bytes or size > into.nbytes:
            return None
        self._run["encode_state16"](_state16(places, address_of(into)), _ONE_THREAD)
        finite = not np.isnan(np.frombuffer(into, "<f4", places.rows)).any()
        return size if finite else None

    def decode_state16(self, data: memoryview, places: StatePlaces) -> None:
        _check_size(data, state16_bytes(places.rows, (places.width,)))
        data = aligned(data)
        self._run["decode_state16"](_state16(places, address_of(data)), _ONE_THREAD)

    def _encode_int8(self, kernel: str, places: TokenPlaces, into: memoryview, size: int, scales: int) -> int | None:
        if size >= places.raw_bytes or size > into.nbytes:
            return None
        at = address_of(into)
        self._run[kernel](INT8.pack(*places.fields(), at, at + 4 * scales), _ONE_THREAD)
        return size

    def _decode_int8(self, kernel: str, data: memoryview, places: TokenPlaces, size: int, scales: int) -> None:
        _check_size(data, size)
        data = aligned(data)
        at = address_of(data)
        self._run[kernel](INT8.pack(*places.fields(), at, at + 4 * scales), _ONE_THREAD)

    def _exact(self, kernel: str, places: TokenPlaces, layout: ExactLayout, data: memoryview, end: int) -> int:
        result = array("q", [0])
        parts = layout.blocks, layout.last_run, layout.codes_at, layout.table_at, layout.escapes_at, end
        arguments = EXACT.pack(*places.fields(), *parts, address_of(data), result.buffer_info()[0])
        self._run[kernel](arguments, _ONE_THREAD)
        return result[0]


def _channel_sizes(places: TokenPlaces) -> tuple[int, int]:
    """Bytes, and scales."""
    scales = -(-places.tokens // BLOCK_TOKENS) * places.channels
    return int8_channel_bytes(places.tokens, (places.channels,)), scales


def _token_sizes(places: TokenPlaces) -> tuple[int, int]:
    """Bytes, and scales."""
    scales = places.tokens * -(-places.channels // GROUP_CHANNELS)
    return int8_token_bytes(places.tokens, (places.channels,)), scales


def _state16(places: StatePlaces, data: int) -> bytes:
    where = places.rows, places.width, places.address, places.offsets.buffer_info()[0]
    return STATE16.pack(*where, data, data + 4 * places.rows)


def _check_size(data: memoryview, expected: int) -> None:
    if data.nbytes != expected:
        raise CodecError(f"{expected} bytes are expected, not {data.nbytes}")
