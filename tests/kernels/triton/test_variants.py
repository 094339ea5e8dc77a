"""Triton compiles a kernel anew for integers of 1 or multiples of 16 and for aligned addresses: never between steps."""

from collections import defaultdict

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import whole_models
from prfaas_kernels.dispatch import triton_kernels
from prfaas_kernels.launch import Launch, recorded
from tests.core.configs import PUBLISHED
from tests.kernels.triton.variant import Variant, variant

STEPS = [  # contexts, new tokens, decodes
    ((5000, 100, 64), (1, 1, 1), 3),
    ((63,) * 16, (1,) * 16, 16),
    ((100_000,), (2,), 0),
    ((0, 9), (4000, 333), 0),
    ((5000, 8192, 0, 9), (1, 4001, 31, 5), 1),
    ((100_000, 3000), (1, 30), 1),
]


def chosen(launch: Launch) -> str:
    """What a launcher decides: types, block shapes, warps and stages."""
    types = [value.dtype if isinstance(value, Tensor) else type(value) for value in launch.arguments]
    return str((launch.kernel.__name__, types, launch.constants, launch.num_warps, launch.num_stages))


@pytest.mark.parametrize("name", ["Kimi-Linear-48B-A3B", "MiMo-V2-Flash", "Qwen3.5-397B-A17B", "Ring-2.5-1T"])
def test_steps_of_all_sizes_run_the_same_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variants: dict[str, set[Variant]] = defaultdict(set)
    for contexts, tokens, decodes in STEPS:
        monkeypatch.setattr(whole_models, "CONTEXTS", contexts)
        monkeypatch.setattr(whole_models, "TOKENS", tokens)
        monkeypatch.setattr(whole_models, "NUM_DECODES", decodes)
        with recorded(90) as launches, triton_kernels():
            whole_models.step(PUBLISHED[name], torch.device("meta"))()
        for launch in launches:
            variants[chosen(launch)].add(variant(launch))
    assert len(variants) > 4
    assert {kernel: len(found) for kernel, found in variants.items() if len(found) > 1} == {}
