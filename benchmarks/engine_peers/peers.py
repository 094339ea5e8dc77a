"""The engines of one model, started and ended alike. Knows how each is started, not what it computes."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.engine_peers.child import Child, PeerError
from benchmarks.engine_peers.prfaas_engine import PrfaasEngine
from benchmarks.report import progress

VLLM_CACHE_GB = 2


class Engine(Protocol):
    """Something that continues prompts greedily, and computes nothing while it is not asked."""

    name: str
    pid: int

    async def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
        """Seconds until every prompt had exactly `new_tokens` more tokens, all together. Raises PeerError."""
        ...

    async def close(self) -> None:
        """Ends its processes."""
        ...


class Peer:
    """Somebody else's engine."""

    def __init__(self, name: str, child: Child) -> None:
        self.name = name
        self.pid = child.pid
        self._child = child

    async def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
        """As `Engine.generate`, by the peer's own clock. Raises PeerError."""
        return (await self._child.ask({"prompts": prompts, "new_tokens": new_tokens}))["seconds"]

    async def close(self) -> None:
        await self._child.close()


@asynccontextmanager
async def machine(threads: int, scratch: Path) -> AsyncIterator[Child]:
    """The machine itself, which answers any question with what it can do at this moment."""
    child = await _start_child(sys.executable, "machine_peer", [str(threads)], scratch, threads)
    try:
        yield child
    finally:
        await child.close()


@asynccontextmanager
async def engines(
    directory: Path, threads: int, vllm_python: str | None, max_tokens: int
) -> AsyncIterator[tuple[PrfaasEngine, list[Engine]]]:
    """Ours, and all that serve the model, ours first. Who cannot is left out, with a line that says why."""
    async with contextlib.AsyncExitStack() as stack:
        ours = await PrfaasEngine.start(directory, threads)
        stack.push_async_callback(ours.close)
        found: list[Engine] = [ours]
        starts = {"transformers": (sys.executable, "transformers_peer", [str(directory), str(threads)])}
        if vllm_python is not None:
            starts["vllm"] = (vllm_python, "vllm_peer", [str(directory), str(max_tokens)])
        for name, (python, module, arguments) in starts.items():
            progress.print(f"{directory.name}: starting {name}")
            try:
                child = await _start_child(python, module, arguments, directory, threads)
            except PeerError as error:
                progress.print(f"{directory.name}: no row for {name}: {error}")
                continue
            stack.push_async_callback(child.close)
            found.append(Peer(name, child))
        yield ours, found


async def write_checkpoint(model: str, directory: Path) -> None:
    """In a process of its own, so that this one stays without torch, as an instance's front is. Raises PeerError."""
    module = f"{__package__}.checkpoints"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, model, str(directory), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise PeerError(f"the checkpoint of {model} could not be written:\n{said.decode(errors='replace')}")


def has_vllm(python: str) -> bool:
    """That interpreter could import vLLM."""
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        return subprocess.run([python, "-c", find], check=False).returncode == 0
    except OSError:
        return False


async def _start_child(python: str, module: str, arguments: Sequence[str], folder: Path, threads: int) -> Child:
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": str(VLLM_CACHE_GB),
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return await Child.start(python, module, arguments, folder / f"{module}.log", environment)
