"""Triton compiles a kernel anew for integers of 1 or multiples of 16 and for aligned addresses: never between steps."""

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import whole_models
from prfaas_kernels.aot import key
from prfaas_kernels.dispatch import triton_kernels
from prfaas_kernels.launch import Launch, recorded
from tests.core.configs import PUBLISHED

OPS = {
    "chunked_prefill_attention",
    "window_attention",
    "mla",
    "paged_decode_attention",
    "merge_partials",
    "gqa_decode_layer",
}
STEPS = [  # contexts, new tokens, decodes
    ((5000, 100, 64), (1, 1, 1), 3),
    ((63,) * 16, (1,) * 16, 16),
    ((100_000,), (2,), 0),
    ((0, 9), (4000, 333), 0),
    ((5000, 8192, 0, 9), (1, 4001, 31, 5), 1),
    ((100_000, 3000), (1, 30), 1),
]


def taken_for_granted(launch: Launch) -> list[tuple[str, int]]:
    """What Triton tells the compiler of arguments beside their types, e.g. that one is a multiple of 16."""
    kernel = launch.kernel
    told = kernel.kwargs if hasattr(kernel, "kwargs") else vars(kernel)  # in the interpreter and on a GPU
    found: list[tuple[str, int]] = []
    for name, value in zip(kernel.arg_names, launch.arguments, strict=False):
        if name in (told.get("do_not_specialize") or ()):
            continue
        if isinstance(value, Tensor):
            found.append((name, value.storage_offset() * value.element_size() % 16 == 0))
        elif type(value) is int:
            found.append((name, value if value == 1 else value % 16 == 0))
    return found


@pytest.mark.parametrize("name", ["Kimi-Linear-48B-A3B", "MiMo-V2-Flash"])
def test_steps_of_all_sizes_run_the_same_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variants: dict[Any, set[str]] = defaultdict(set)
    for contexts, tokens, decodes in STEPS:
        monkeypatch.setattr(whole_models, "CONTEXTS", contexts)
        monkeypatch.setattr(whole_models, "TOKENS", tokens)
        monkeypatch.setattr(whole_models, "NUM_DECODES", decodes)
        with recorded(90) as launches, triton_kernels():
            whole_models.step(PUBLISHED[name], torch.device("meta"))()
        for launch in launches:
            if launch.kernel.fn.__module__.split(".")[1] in OPS:
                variants[launch.kernel.__name__, key(launch)].add(str(taken_for_granted(launch)))
    assert len(variants) > 4
    assert {kernel: len(found) for kernel, found in variants.items() if len(found) > 1} == {}
