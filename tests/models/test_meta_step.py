"""Whole models as on a GPU, without one: no op reads a tensor's value, or mixes devices, in the middle of a step."""

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.kernels.whole_models import TOKENS, step
from prfaas_kernels.dispatch import triton_kernels
from prfaas_kernels.launch import recorded
from tests.core.configs import CONFIGS, PUBLISHED


@pytest.mark.parametrize("config", [*PUBLISHED.values(), CONFIGS["minimax"]], ids=[*PUBLISHED, "MiniMax-01"])
@pytest.mark.parametrize("capability", [80, 100])
def test_a_step_is_launched_without_waiting_for_the_device(config: dict[str, Any], capability: int) -> None:
    with recorded(capability) as launches, triton_kernels():
        logits = step(config, torch.device("meta"))()
    assert isinstance(logits, Tensor)
    assert logits.shape == (len(TOKENS), config.get("vocab_size") or config["text_config"]["vocab_size"])
    assert logits.device.type == "meta"
    kernels = {launch.kernel.__name__ for launch in launches}
    assert {"_norm_kernel"} < kernels
    assert all(min(launch.grid) > 0 for launch in launches)
