"""The families' decoders with Triton's kernels, on a GPU or interpreted, against the CPU's ops: all kinds of steps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prfaas.core.shape import DType
from prfaas.models.loader import load_model
from prfaas_kernels.dispatch import triton_kernels
from tests.kernels.error_ratio import error_ratio
from tests.models.conftest import Tiny
from tests.models.rig import Part, Rig, forward, logit_error, make_rig
from tests.models.test_parity import prompt

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = 1e-4 if DEVICE == "cpu" else 2e-2
"""A GPU multiplies fp32 in tf32."""
TIMES_THE_CPU = 2.5
"""In bf16 both are off, by roundings in another order, some of which choose other experts."""


FAMILIES = ["kimi_linear", "qwen3_next", "mimo_v2_flash", "minimax", "minimax_m2", "ring"]
"""All ops, and all that layers do with them; the interpreter is slow."""


def mixed(rig: Rig) -> list[Tensor]:
    """Two prompts; the decode of one beside the rest of the other in two spans and a new one; decodes alone."""
    torch.manual_seed(7)
    ids = [prompt(n) for n in (9, 37, 1)]
    first = forward(rig, [Part(0, ids[0][:8]), Part(1, ids[1][:3])])
    second = [Part(0, ids[0][8:], 8), Part(1, ids[1][3:20], 3), Part(1, ids[1][20:], 20), Part(2, ids[2])]
    third = [Part(2, [5], 1), Part(1, [6], 37)]
    return [*first, *forward(rig, second, num_decodes=1), *forward(rig, third, num_decodes=2)]


def in_triton(tiny: Tiny, dtype: DType) -> list[Tensor]:
    """Logits of every part of those steps, from a cache full of NaN."""
    with triton_kernels():
        return mixed(make_rig(load_model(tiny.directory, dtype, device=DEVICE), 3, device=DEVICE))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_has_the_same_logits(family: str, tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of(family)
    expected = mixed(make_rig(tiny.ours, 3))
    for i, (logits, wanted) in enumerate(zip(in_triton(tiny, "float32"), expected, strict=True)):
        assert logit_error(logits, wanted) < CLOSE, f"part {i}"


@pytest.mark.parametrize("family", ["kimi_linear", "mimo_v2_flash"])
def test_in_bfloat16_they_are_no_further_off_than_the_cpu(family: str, tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of(family)
    exact = torch.cat(mixed(make_rig(tiny.ours, 3)))
    cpu = torch.cat(mixed(make_rig(load_model(tiny.directory, "bfloat16"), 3)))
    found = torch.cat(in_triton(tiny, "bfloat16"))
    assert error_ratio(found, exact) < TIMES_THE_CPU * error_ratio(cpu, exact)
