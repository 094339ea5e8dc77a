"""How many GPUs hold a model, and at how many bytes a weight. Knows no speeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.core.errors import ConfigError
from prfaas.planner.gpus import Gpu

MEMORY_SHARE = 0.9
"""Of a GPU's memory, what weights and cache may take; the rest is for what a step computes."""
PRECISIONS: dict[int, str] = {2: "bf16", 1: "fp8"}
"""By bytes of a weight, the preferred first."""


@dataclass(frozen=True, slots=True)
class Hosting:
    """One instance's GPUs with the weights on them."""

    gpu: Gpu
    gpus: int
    weight_bytes: int
    """Of one parameter."""
    cache_bytes: float
    """Left for KV, states and cached prefixes."""

    @property
    def name(self) -> str:
        return f"{self.gpus}x{self.gpu.name}"

    @property
    def precision(self) -> str:
        return PRECISIONS[self.weight_bytes]


def host(parameters: int, prompt_bytes: float, gpu: Gpu, counts: Sequence[int]) -> Hosting:
    """The fewest GPUs of `counts`, and on those the most bytes a weight, that leave room for one long prompt.

    `prompt_bytes` is what that prompt leaves in the cache. Raises ConfigError when not even fp8 weights fit.
    """
    for gpus in counts:
        usable = gpus * gpu.memory_bytes * MEMORY_SHARE
        for weight_bytes in PRECISIONS:
            room = usable - parameters * weight_bytes
            if room >= prompt_bytes:
                return Hosting(gpu, gpus, weight_bytes, room)
    needed, most = parameters + prompt_bytes, counts[-1]
    fewest = -(-needed // (gpu.memory_bytes * MEMORY_SHARE))
    raise ConfigError(
        f"{parameters / 1e9:.0f}B parameters take {parameters / 1e9:.0f} GB in fp8, and one long prompt "
        f"{prompt_bytes / 1e9:.1f} GB: more than {most}x{gpu.name} have to spare "
        f"({most * gpu.memory_gb * MEMORY_SHARE:.0f} GB); give --gpus {fewest:.0f} or more, or GPUs with more memory"
    )
