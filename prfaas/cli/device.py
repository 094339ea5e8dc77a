"""Which device an engine computes on. Knows no model."""

import importlib.util
import logging
from typing import Literal

import torch
from torch import Tensor

from prfaas.core.errors import ConfigError

log = logging.getLogger(__name__)


def choose_device(wanted: Literal["auto", "cpu", "cuda"], ranks: int) -> torch.device:
    """Raises ConfigError, with what to change, where the wanted one, or what it needs, is not there."""
    there = torch.cuda.is_available()
    if wanted == "cpu" or (wanted == "auto" and not there):
        log.info("the model computes on the CPU%s", "" if wanted == "cpu" else ": torch finds no GPU here")
        return torch.device("cpu")
    if not there:
        raise ConfigError(
            "engine.device is cuda, but torch finds no GPU here; set it to cpu, or install torch for CUDA"
        )
    if importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "a GPU needs Triton for the model's kernels: pip install 'prfaas[gpu]', or set engine.device: cpu"
        )
    if ranks > 1:
        raise ConfigError(
            "engine.tensor_parallel is for CPUs only so far: set it to 1 and start one instance a GPU, "
            "or set engine.device: cpu"
        )
    device = torch.device("cuda", torch.cuda.current_device())
    log.info("the model computes on %s", device_name(device))
    return device


def device_name(device: torch.device) -> str:
    """For people and metrics."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def allocate_pages(num_bytes: int, device: torch.device) -> Tensor:
    """The memory of a cache on a device, [bytes] uint8. Raises ConfigError where there is not so much."""
    try:
        return torch.empty(num_bytes, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError as error:
        size = f"{num_bytes / 2**30:.1f} GiB"
        raise ConfigError(f"engine.num_pages takes {size}, more than is free on {device}; lower it") from error
