"""The families' decoders with Triton's kernels, as on a GPU, against the CPU's: prompts, chunks and decodes."""

from collections.abc import Callable

import torch
from torch import Tensor

from prfaas.models.loader import LoadedModel, load_model
from prfaas_kernels.dispatch import triton_kernels
from tests.models.conftest import Tiny
from tests.models.rig import Part, Rig, forward, logit_error, make_rig
from tests.models.test_parity import prompt

CLOSE = 1e-4


def both(tiny: Tiny, steps: Callable[[Rig], list[Tensor]], sequences: int) -> tuple[list[Tensor], list[Tensor]]:
    """The same steps on the CPU's ops and on Triton's, each from a cache of its own full of NaN."""
    expected = steps(make_rig(tiny.ours, sequences))
    with triton_kernels():
        return steps(make_rig(in_triton(tiny), sequences)), expected


def in_triton(tiny: Tiny) -> LoadedModel:
    return load_model(tiny.directory, "float32")


def mixed(rig: Rig) -> list[Tensor]:
    """A prompt; then its decode beside one of a single token, the rest of a prompt in two spans, and a new one."""
    torch.manual_seed(7)
    ids = [prompt(n) for n in (9, 37, 1)]
    first = forward(rig, [Part(0, ids[0][:8]), Part(1, ids[1][:3])])
    second = [Part(0, ids[0][8:], 8), Part(1, ids[1][3:20], 3), Part(1, ids[1][20:], 20), Part(2, ids[2])]
    third = [Part(2, [5], 1), Part(1, [6], 37)]
    return [*first, *forward(rig, second, num_decodes=1), *forward(rig, third, num_decodes=2)]


def test_a_mixed_batch_has_the_same_logits(every: Tiny) -> None:
    found, expected = both(every, mixed, 3)
    for i, (logits, wanted) in enumerate(zip(found, expected, strict=True)):
        assert logit_error(logits, wanted) < CLOSE, f"part {i}"
