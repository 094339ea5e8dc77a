"""A tiny checkpoint, an engine process that serves it behind its front's link, and requests that time their tokens."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from benchmarks.engine_peers.process_tree import children
from benchmarks.report import progress
from prfaas.cli.start_engine import RunningEngine, launch_process, start_engine
from prfaas.config.sections import EngineSection, ModelSection
from prfaas.core.ids import RequestId
from prfaas.core.model_files import read_config
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import DType, model_shape
from prfaas.engine.messages import Generated, RequestEvent
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics

DTYPE: DType = "bfloat16"
VOCAB, FIRST_ORDINARY_ID = 2048, 3
CHECKPOINT = {
    "vocab_size": VOCAB,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1 << 18,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "tie_word_embeddings": False,
}


class Decoding:
    """One request after another, each with a new answer to the same prompt, until closed; and when tokens came."""

    def __init__(self, running: RunningEngine, prompt: Sequence[int], max_tokens: int) -> None:
        self.answers_s: list[list[float]] = []
        """By answer: the moments of its tokens."""
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        self._request = Request(RequestId("fairness"), tuple(prompt), sampling)
        self._running = running
        self._more = asyncio.Event()
        self._open()

    def _open(self) -> None:
        self.answers_s.append([])
        self._stream = self._running.front.open(self._request, Mode.SERVE, self._hear)

    def _hear(self, event: RequestEvent) -> None:
        if isinstance(event, Generated):
            self.answers_s[-1].append(time.perf_counter())
            self._more.set()
            if event.finish is not None:
                self._stream.close()
                self._open()

    async def has(self, tokens: int) -> None:
        """Returns once so many tokens have come."""
        while sum(map(len, self.answers_s)) < tokens:
            self._more.clear()
            await self._more.wait()

    def close(self) -> None:
        self._stream.close()


@asynccontextmanager
async def tiny_engine(
    directory: Path, settings: EngineSection, metrics: InstanceMetrics | None = None
) -> AsyncIterator[tuple[RunningEngine, int]]:
    """An engine that serves `directory`, and its process. Raises ModelError or EngineError."""
    metrics = metrics or InstanceMetrics(CollectorRegistry())
    shape = model_shape(read_config(directory), DTYPE)
    section = ModelSection(path=directory, name="tiny", dtype=DTYPE)
    before = children(os.getpid())
    running = await start_engine("bench", section, settings, shape, metrics, launch_process)
    try:
        if not running.ready.compiled_kernels:
            progress.print("without compiled kernels: there is no compiler here")
        (pid,) = children(os.getpid()) - before
        yield running, pid
    finally:
        await running.front.stop()


def own_mb(pid: int) -> float:
    """Resident memory of a process that is its own: without the cache, which it shares with its front."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1000


def write_checkpoint(directory: Path) -> Path:
    """Random weights, the same every time, by a process of its own: this one stays without torch, as a front does."""
    arguments = [sys.executable, "-c", _WRITE, json.dumps(CHECKPOINT), str(directory)]
    subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
    return directory


_WRITE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
torch.manual_seed(0)
config = AutoConfig.for_model("qwen3_5_text", **json.loads(sys.argv[1]))
AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(sys.argv[2])
"""
