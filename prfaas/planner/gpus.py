"""The GPUs that profiles can be computed for. Figures of their makers' data sheets, and prices; edit either here."""

from dataclasses import dataclass

from prfaas.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    name: str
    tflop_s: float
    """Dense bf16, at its peak."""
    tbyte_s: float
    """Memory bandwidth."""
    memory_gb: float
    """10⁹ bytes."""
    usd_per_hour: float
    """A round figure of the order that is asked on the market; only ratios matter to the plan."""

    @property
    def flop_s(self) -> float:
        return self.tflop_s * 1e12

    @property
    def bytes_s(self) -> float:
        return self.tbyte_s * 1e12

    @property
    def memory_bytes(self) -> float:
        return self.memory_gb * 1e9


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("H200", tflop_s=989, tbyte_s=4.8, memory_gb=141, usd_per_hour=4.0),
        Gpu("H20", tflop_s=148, tbyte_s=4.0, memory_gb=96, usd_per_hour=2.0),
        Gpu("H100", tflop_s=989, tbyte_s=3.35, memory_gb=80, usd_per_hour=3.0),
        Gpu("B200", tflop_s=2250, tbyte_s=7.7, memory_gb=180, usd_per_hour=6.0),
        Gpu("L40S", tflop_s=362, tbyte_s=0.864, memory_gb=48, usd_per_hour=1.0),
    )
}


def gpu_of(name: str) -> Gpu:
    """By its name, in either case. Raises ConfigError."""
    found = GPUS.get(name.upper())
    if found is None:
        raise ConfigError(f"GPU {name!r} is not known; give one of {', '.join(GPUS)}, or measure one with --model DIR")
    return found
