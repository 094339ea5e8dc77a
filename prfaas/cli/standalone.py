"""`prfaas serve --role decode --model DIR`: the smallest fleet, one router and one decode instance, without a file."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prfaas.cache.layout import lay_out
from prfaas.cli.gpu_memory import free_gpu_bytes
from prfaas.config.load import load
from prfaas.config.sections import EngineSection, FleetConfig
from prfaas.core.model_files import read_config
from prfaas.core.shape import DType, ModelShape, model_shape

MOST_PAGES = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an engine may go on a kind of device."""

    cache_share: float
    """Of the free memory beside the weights, what the cache may take when all its pages are in use."""
    most_running: int
    step_tokens: int
    """A prompt's chunk where nothing decodes."""


ON_CPU = Limits(cache_share=0.5, most_running=64, step_tokens=2048)
"""Chunks of 2,048 are 5 % faster than those of 1,024, and nobody waits for their layers to be sent."""
ON_GPU = Limits(cache_share=0.8, most_running=256, step_tokens=8192)
"""Not measured: a fifth is left to what a step computes."""


@contextmanager
def fleet_file(
    model: Path, http: str, dtype: DType | None, overrides: Sequence[str]
) -> Iterator[tuple[Path, FleetConfig]]:
    """Writes a fleet file for one model to a folder that lives as long as the context. Raises ModelError, ConfigError.

    `overrides` are those of `--set`; the file has sizes that fit this machine, so they are rarely needed.
    """
    raw = read_config(model)
    on_gpu = None if "engine.device=cpu" in overrides else free_gpu_bytes()
    chosen = dtype or preferred_dtype(raw, cpu_flags() if on_gpu is None else frozenset({"bf16"}))
    shape = model_shape(raw, chosen)
    free = (free_bytes() if on_gpu is None else on_gpu) - _weight_bytes(model)
    fleet = {
        "model": {"path": str(model.resolve()), "name": model.resolve().name, "dtype": chosen},
        "router": {"http": http, "control": f"127.0.0.1:{_free_port()}"},
        "engine": sized(shape, free, os.cpu_count() or 1, ON_CPU if on_gpu is None else ON_GPU),
        # Its processes talk to each other on loopback only.
        "security": {"mode": "plain"},
        "clusters": [{"name": "local", "kind": "pd", "instances": [{"name": "decode-0", "role": "decode"}]}],
    }
    with tempfile.TemporaryDirectory(prefix="prfaas-") as scratch:
        path = Path(scratch) / "fleet.yaml"
        path.write_text(json.dumps(fleet, indent=2))  # JSON is YAML
        yield path, load(path, overrides)


def preferred_dtype(raw: dict[str, Any], flags: frozenset[str]) -> DType:
    """bfloat16 for a checkpoint in it, where the processor multiplies it natively, as GPUs do; float32 otherwise."""
    text = raw.get("text_config") or raw
    stored = text.get("dtype") or text.get("torch_dtype") or raw.get("dtype") or raw.get("torch_dtype")
    native = not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return "bfloat16" if stored == "bfloat16" and native else "float32"


def sized(shape: ModelShape, free: int, cores: int, limits: Limits = ON_CPU) -> dict[str, int]:
    """Engine settings whose cache takes at most its share of `free` bytes; never less than one short request."""
    layout = lay_out(shape, EngineSection().page_tokens)
    smallest = layout.state_pages + 1
    pages = max(smallest, min(MOST_PAGES, int(free * limits.cache_share) // layout.page_bytes))
    running = max(1, min(limits.most_running, pages // (2 * smallest)))
    return {"num_pages": pages, "max_running_requests": running, "step_tokens": limits.step_tokens, "threads": cores}


def cpu_flags() -> frozenset[str]:
    """What the processor says of itself; empty where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def free_bytes() -> int:
    """Memory that this machine could give to new processes now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _weight_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
