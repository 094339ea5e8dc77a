"""The disk tier below real engine processes: what one stored before it was killed, the next one goes on from."""

import os
import random
import signal
from pathlib import Path

import pytest

from prfaas.cli.start_engine import RunningEngine
from prfaas.core.errors import ConfigError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.messages import DiskStats, Generated, Prefilled
from prfaas.scheduler.sequence import Mode
from tests.eventually import eventually_async
from tests.system.engines import engine, engine_of

pytestmark = pytest.mark.system

PAGE_TOKENS = 16
BLOCKS = 25
PROMPT = tuple(random.Random(0).choices(range(3, 1000), k=BLOCKS * PAGE_TOKENS + 1))
ENGINE = {"page_tokens": PAGE_TOKENS, "num_pages": 256, "max_running_requests": 4}


async def ask(running: RunningEngine) -> tuple[list[int], int]:
    """Tokens of the answer, and how many of the prompt were not computed."""
    sampling = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
    stream = running.front.open(Request(RequestId("r"), PROMPT, sampling), Mode.SERVE)
    tokens, reused = [], 0
    while True:
        match await stream.next():
            case Prefilled(tokens_reused=found):
                reused = found
            case Generated(token_id=token, finish=finish):
                tokens.append(token)
                if finish is not None:
                    stream.close()
                    return tokens, reused


def disk(running: RunningEngine) -> DiskStats:
    return running.front.stats.prefix.disk or DiskStats()


async def test_a_killed_engines_prefixes_are_found_by_the_next_one_even_with_other_ranks(
    model: Path, tmp_path: Path
) -> None:
    kept = {"disk": {"path": str(tmp_path / "kv")}, "snapshot_every_tokens": 0}
    async with engine(model, **ENGINE, prefix_cache=kept) as running:
        expected, reused = await ask(running)
        assert reused == 0
        await eventually_async(lambda: disk(running).stored >= BLOCKS + 1)
        os.kill(engine_of(os.getpid()), signal.SIGKILL)
        await eventually_async(running.front.engine_died.is_set)
    async with engine(model, **ENGINE, prefix_cache=kept, tensor_parallel=2) as running:
        await eventually_async(lambda: disk(running).entries >= BLOCKS + 1)
        assert await ask(running) == (expected, BLOCKS * PAGE_TOKENS)
        assert disk(running).loaded == BLOCKS + 1


async def test_a_folder_that_cannot_be_is_refused_and_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = {"disk": {"path": str(tmp_path / "file" / "kv")}}
    with pytest.raises(ConfigError, match=r"engine.prefix_cache.disk.path: .* cannot be used \(Not a directory\)"):
        async with engine(model, **ENGINE, prefix_cache=kept):
            pytest.fail("it started")
