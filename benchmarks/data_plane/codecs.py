"""What the KV codecs save, cost and lose: one thread, from pages and to pages, as the data plane calls them."""

import argparse
import json
import time
from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray

from prfaas.cache.layout import lay_out
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.arena import Arena
from prfaas.engine.memory import CacheMemory
from prfaas.instance.kv_codec import KvCodec
from prfaas.instance.kv_cut import cut
from prfaas.instance.kv_rows import RequestRows
from prfaas.wire.header import Codec, ObjectKey

FRAME_BYTES = 1 << 20
PAGE_TOKENS = 64
TOKENS = 16_384
ROUNDS = 5
KEYS, VALUES, STATE = (0, 0), (0, 1), (1, 0)
SHAPE = ModelShape(
    "codecs",
    (
        LayerCache("gqa", True, (CacheTensor("k", (8, 128), "bfloat16"), CacheTensor("v", (8, 128), "bfloat16"))),
        LayerCache("kda", False, (CacheTensor("state", (256, 128, 128), "float32"),)),
    ),
    TOKENS,
)
CASES = {
    "int8": ((KEYS, Codec.INT8_CHANNEL), (VALUES, Codec.INT8_TOKEN)),
    "exact": ((KEYS, Codec.EXACT), (VALUES, Codec.EXACT)),
    "state16": ((STATE, Codec.STATE16),),
}


class End:
    """One end's cache; its pages are in random order, as in a pool that has lived."""

    def __init__(self, seed: int) -> None:
        layout = lay_out(SHAPE, PAGE_TOKENS)
        kv_pages = TOKENS // PAGE_TOKENS
        num_pages = kv_pages + layout.state_pages
        arena = Arena.create(layout.num_bytes(num_pages))
        arena.close()
        order = tuple(Random(seed).sample(range(num_pages), num_pages))
        memory = CacheMemory(SHAPE, layout, arena.memory)
        self.rows = RequestRows(SHAPE, memory, order[:kv_pages], order[kv_pages:])
        # Written once before anything is timed: the kernel hands out fresh memory slowly.
        arena.memory[:] = bytes(arena.memory.nbytes)

    def put(self, tensor: tuple[int, int], values: NDArray[np.float32]) -> None:
        bits = values.view("<u4")
        bf16 = SHAPE.layers[tensor[0]].tensors[tensor[1]].dtype == "bfloat16"
        data, at = memoryview((((bits + 0x8000) >> 16).astype("<u2") if bf16 else bits).tobytes()), 0
        for span in self.rows.spans(_whole(tensor)):
            span[:] = data[at : at + span.nbytes]
            at += span.nbytes

    def values(self, tensor: tuple[int, int]) -> NDArray[np.float32]:
        data = b"".join(self.rows.spans(_whole(tensor)))
        if SHAPE.layers[tensor[0]].tensors[tensor[1]].dtype == "float32":
            return np.frombuffer(data, "<f4")
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def measure() -> dict[str, dict[str, float]]:
    """By codec: `ratio` of bytes before and after, `rel_rms` error, GB of values per second each way.

    Values are normal. Those of keys and values differ in size from channel to channel, as in real models: by a factor
    of exp(0.5 N(0, 1)) in keys and exp(0.1 N(0, 1)) in values. States differ in size by exp(N(0, 1)) from head to head.
    """
    codec, sender, receiver = KvCodec.open(), End(1), End(2)
    random = np.random.default_rng(0)
    for tensor, rows, width, spread in ((KEYS, TOKENS, 1024, 0.5), (VALUES, TOKENS, 1024, 0.1), (STATE, 256, 16384, 1)):
        size = np.exp(spread * random.standard_normal((rows, 1) if tensor == STATE else width))
        sender.put(tensor, (random.standard_normal((rows, width), np.float32) * size).astype("<f4"))
    return {name: _case(codec, sender, receiver, parts) for name, parts in CASES.items()}


def _case(
    codec: KvCodec, sender: End, receiver: End, parts: tuple[tuple[tuple[int, int], Codec], ...]
) -> dict[str, float]:
    objects = [(kind, key) for tensor, kind in parts for key in _objects(tensor)]
    raw_bytes = sum((key.end - key.start) * sender.rows.row_bytes(key) for _, key in objects)
    staging = memoryview(bytearray(FRAME_BYTES))
    encoded = {key: bytes(staging[: _must(codec.encode(kind, sender.rows, key, staging))]) for kind, key in objects}

    def encode() -> None:
        for kind, key in objects:
            codec.encode(kind, sender.rows, key, staging)

    def decode() -> None:
        for kind, key in objects:
            codec.decode(kind, memoryview(encoded[key]), receiver.rows, key)

    encode_s, decode_s = _best(encode), _best(decode)
    wanted = np.concatenate([sender.values(tensor) for tensor, _ in parts])
    error = np.concatenate([receiver.values(tensor) for tensor, _ in parts]) - wanted
    return {
        "ratio": raw_bytes / sum(map(len, encoded.values())),
        "rel_rms": float(np.sqrt(np.mean(error.astype("f8") ** 2) / np.mean(wanted.astype("f8") ** 2))),
        "encode_gb_s": raw_bytes / encode_s / 1e9,
        "decode_gb_s": raw_bytes / decode_s / 1e9,
    }


def _objects(tensor: tuple[int, int]) -> list[ObjectKey]:
    cache = SHAPE.layers[tensor[0]]
    rows, row_bytes = cache.num_rows(tensor[1], TOKENS), cache.row_bytes(tensor[1])
    return [ObjectKey(*tensor, start, end) for start, end in cut(0, rows, row_bytes, FRAME_BYTES)]


def _whole(tensor: tuple[int, int]) -> ObjectKey:
    return ObjectKey(*tensor, 0, SHAPE.layers[tensor[0]].num_rows(tensor[1], TOKENS))


def _must(size: int | None) -> int:
    assert size is not None, "the values of this benchmark can be encoded"
    return size


def _best(run: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Prints one table, or with `--json` what `measure` returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json, found = parser.parse_args().json, measure()
    if as_json:
        print(json.dumps(found))
        return
    print(f"{'codec':8} {'fewer bytes':>12} {'rel. RMS':>9} {'encode GB/s':>12} {'decode GB/s':>12}")
    for name, numbers in found.items():
        ratio, error = f"{numbers['ratio']:.3f}", f"{numbers['rel_rms']:.2%}"
        print(f"{name:8} {ratio:>12} {error:>9} {numbers['encode_gb_s']:12.1f} {numbers['decode_gb_s']:12.1f}")


if __name__ == "__main__":
    main()
