"""What the machine does with no engine in the way: it reads memory, it multiplies. `python -m ... THREADS`."""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.engine_peers.line import Line

READ_BYTES = 512 << 20
"""Far more than any cache of the processor."""
READ_TIMES, MULTIPLY_TIMES = 8, 60
TOKENS, INNER, OUTER = 1024, 2048, 2048
"""A product of the size that a prefill of a thousand tokens does, in bf16."""


def main() -> None:
    line = Line()
    torch.set_num_threads(int(sys.argv[1]))
    memory = torch.ones(READ_BYTES // 4)
    x, weight = torch.randn(TOKENS, INNER).bfloat16(), torch.randn(OUTER, INNER).bfloat16()

    def answer(_: dict[str, Any]) -> dict[str, float]:
        return {
            "read_gb_s": READ_BYTES / _best_s(memory.sum, READ_TIMES) / 1e9,
            "gemm_tflop_s": 2
            * TOKENS
            * INNER
            * OUTER
            / _best_s(lambda: functional.linear(x, weight), MULTIPLY_TIMES)
            / 1e12,
        }

    with torch.inference_mode():
        line.serve(answer)


def _best_s(work: Callable[[], Any], times: int) -> float:
    """The fastest of several: a floor is what can be done, not what else kept the machine busy."""
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
