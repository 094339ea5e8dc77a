"""The wire's codecs on rows of the cache, and how fast they are here; needs a compiler, no torch. Chooses none."""

import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from prfaas.config.sections import CodecName
from prfaas.core.errors import ManifestError
from prfaas.instance.kv_rows import RequestRows
from prfaas.wire.header import Codec, ObjectKey
from prfaas_kernels.bytes_codec import BytesCodec, CodecError, StatePlaces, TokenPlaces, address_of

FAMILIES: Mapping[CodecName, frozenset[Codec]] = {
    "raw": frozenset({Codec.RAW}),
    "exact": frozenset({Codec.EXACT}),
    "int8": frozenset({Codec.INT8_CHANNEL, Codec.INT8_TOKEN}),
    "state16": frozenset({Codec.STATE16}),
}
"""What the configuration and tickets call codecs."""

_SAMPLE_VALUES = 1 << 18
_SAMPLE_ROUNDS = 4


class KvCodec:
    """May be called from many threads at once; the interpreter's lock is free meanwhile."""

    def __init__(self, kernels: BytesCodec) -> None:
        self._kernels = kernels
        self.encode_bytes_s = _speeds(kernels)
        """Of one thread on this machine, by codec, in bytes before encoding; measured now, in some milliseconds."""

    @classmethod
    def open(cls, directory: Path | None = None, compiler: str = "g++") -> "KvCodec":
        """Compiles the kernels on first use (seconds). Raises `prfaas_kernels.bytes_codec.BuildError`."""
        return cls(BytesCodec.open(directory, compiler))

    def encode(self, codec: Codec, rows: RequestRows, key: ObjectKey, into: memoryview) -> int | None:
        """Writes an object into `into`; how many bytes it has there.

        None if encoding does not make it smaller, or cannot keep what it says (a state that is not finite).
        """
        match codec:
            case Codec.EXACT:
                return self._kernels.encode_exact(rows.places(key), into)
            case Codec.INT8_CHANNEL:
                return self._kernels.encode_int8_channel(rows.places(key), into)
            case Codec.INT8_TOKEN:
                return self._kernels.encode_int8_token(rows.places(key), into)
            case Codec.STATE16:
                return self._kernels.encode_state16(rows.state_places(key), into)
            case Codec.RAW:
                return None

    def decode(self, codec: Codec, payload: memoryview, rows: RequestRows, key: ObjectKey) -> None:
        """Writes an object to its rows, of whichever dtype these are; `exact` only to bf16.

        Raises ManifestError for bytes that no encoder makes of so many rows; what the rows hold is then undefined.
        """
        assert codec is not Codec.RAW, f"{key} is not encoded"
        try:
            match codec:
                case Codec.EXACT:
                    self._kernels.decode_exact(payload, rows.places(key))
                case Codec.INT8_CHANNEL:
                    self._kernels.decode_int8_channel(payload, rows.places(key))
                case Codec.INT8_TOKEN:
                    self._kernels.decode_int8_token(payload, rows.places(key))
                case Codec.STATE16:
                    self._kernels.decode_state16(payload, rows.state_places(key))
        except CodecError as error:
            raise ManifestError(f"{key} cannot be decoded: {error}") from error

    def decode_exact_dense(self, payload: memoryview, key: ObjectKey, into: memoryview) -> None:
        """Writes an object's bf16 values one after the other, as the sender has them. Raises ManifestError."""
        num_rows = key.end - key.start
        places = TokenPlaces(address_of(into), num_rows, into.nbytes // 2 // num_rows, bf16=True)
        try:
            self._kernels.decode_exact(payload, places)
        except CodecError as error:
            raise ManifestError(f"{key} cannot be decoded: {error}") from error


def _speeds(kernels: BytesCodec) -> dict[CodecName, float]:
    values = np.random.default_rng(0).standard_normal(_SAMPLE_VALUES, np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    into, width = memoryview(bytearray(values.nbytes)), 1024
    tokens = TokenPlaces(address_of(halves.data.cast("B")), _SAMPLE_VALUES // width, width, bf16=True)
    offsets = array("q", range(0, values.nbytes, 4 * width))
    states = StatePlaces(address_of(values.data.cast("B")), offsets, width)
    return {
        "exact": _bytes_per_s(halves.nbytes, lambda: kernels.encode_exact(tokens, into)),
        "int8": _bytes_per_s(halves.nbytes, lambda: kernels.encode_int8_channel(tokens, into)),
        "state16": _bytes_per_s(values.nbytes, lambda: kernels.encode_state16(states, into)),
    }


def _bytes_per_s(num_bytes: int, run: Callable[[], object]) -> float:
    """The best of a few, since other threads take their share of the others."""
    times = []
    for _ in range(_SAMPLE_ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return num_bytes / max(min(times), 1e-9)
