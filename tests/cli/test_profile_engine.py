"""An engine that is measured: a real one, in a thread, with the demo's model. What it takes is not looked at."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prfaas.cli.profile_engine import STEPS, ProfiledEngine, profiled_engine
from prfaas.core.errors import ConfigError
from prfaas.engine.settings import EngineSettings
from prfaas.models.demo_model import write_demo_model
from tests.fleet.engine_thread import EngineThread


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ProfiledEngine]:
    async def launch(settings: EngineSettings) -> EngineThread:
        return EngineThread(settings)

    write_demo_model(tmp_path / "demo")
    async with profiled_engine(tmp_path / "demo", "float32", 1, launch) as engine:
        yield engine


async def test_prompts_and_steps_are_timed_by_the_engine_itself(engine: ProfiledEngine) -> None:
    prompt = await engine.prefill(80)
    assert (prompt.tokens, prompt.seconds > 0) == (80, True)
    again = await engine.prefill(80)
    assert again.seconds > 0
    behind = await engine.prefill_behind(200, 140)
    assert behind is not None, "the demo's model keeps prefixes"
    assert 0 < behind.cached_tokens <= 140
    assert (behind.tokens, behind.seconds > 0) == (200, True)
    steps = await engine.decode(3, 20)
    assert steps.requests == 3
    assert 3 * 20 + STEPS < steps.context_tokens < 3 * (20 + 4 * STEPS)
    assert steps.seconds > 0
    assert await engine.prefill_behind(60, 30) is None, "shorter than a page"
    engine.check(1000, 1)
    with pytest.raises(ConfigError, match=r"are more than the model's \d+; give shorter --lengths"):
        engine.check(10**7, 1)
    with pytest.raises(ConfigError, match=r"5000 requests of 1000 tokens do not fit.*give smaller --batches"):
        engine.check(1000, 5000)
