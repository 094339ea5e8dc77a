"""The engine as a process of its own: bytes across the boundary, signals, and deaths on either side."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import yaml

from prfaas.cache.layout import lay_out
from prfaas.core.errors import EngineError, ModelError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.messages import Admitted, Generated, LayerDone, Prefilled, RequestEvent
from prfaas.instance.stream import RequestStream
from prfaas.models.batch import ForwardBatch
from prfaas.models.cache_tensors import allocate_cache
from prfaas.models.loader import load_model
from prfaas.scheduler.sequence import Mode
from prfaas_kernels import native
from tests.eventually import eventually_async
from tests.system.engines import alive, engine, engine_of, shared_memory
from tests.system.fleets import LONG_WORDS, RunningFleet, processes, prompt_of, write_fleet_file

pytestmark = pytest.mark.system

PROMPT = tuple(range(5, 105))
PAGE_TOKENS = 16


def request(max_tokens: int) -> Request:
    return Request(RequestId("r"), PROMPT, SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True))


async def until_finished(stream: RequestStream) -> list[int]:
    tokens = []
    while True:
        event = await stream.next()
        if isinstance(event, Generated):
            tokens.append(event.token_id)
            if event.finish is not None:
                return tokens


def expected_bytes(model: Path) -> list[bytes]:
    """Each cached tensor of the prompt, computed here with the same kernels and in memory of our own."""
    native.enable()
    loaded = load_model(model, "float32")
    pages = -(-len(PROMPT) // PAGE_TOKENS)
    state_pages = lay_out(loaded.shape, PAGE_TOKENS).state_pages
    cache = allocate_cache(loaded.shape, pages + state_pages, PAGE_TOKENS)
    states = torch.arange(pages, pages + state_pages)[None]
    batch = ForwardBatch(
        token_ids=torch.tensor(PROMPT),
        query_lens=(len(PROMPT),),
        context_lens=(0,),
        block_table=torch.arange(pages)[None],
        state_from=states,
        state_to=states,
        continues=(False,),
        num_decodes=0,
        logit_rows=torch.tensor([len(PROMPT) - 1]),
    )
    torch.set_num_threads(1)
    with torch.inference_mode():
        loaded.decoder.forward(batch, cache)
    found = []
    offsets = cache.rows.resolve(states)
    for layer in cache.layers:
        found += [pages.flatten(0, 1)[: len(PROMPT)].numpy().tobytes() for pages in layer.pages]
        found += [state.rows(offsets, offsets).load(0, 1).numpy().tobytes() for state in layer.states]
    return found


async def test_an_exports_bytes_are_those_that_the_model_computes(model: Path) -> None:
    async with engine(model, page_tokens=PAGE_TOKENS, num_pages=32, max_running_requests=4) as running:
        seen: list[RequestEvent] = []
        stream = running.front.open(request(1), Mode.EXPORT, seen.append)
        while not isinstance(await stream.next(), Prefilled):
            pass
        held = seen[0]
        assert isinstance(held, Admitted)
        loaded = load_model(model, "float32")
        assert running.ready.fingerprint == loaded.fingerprint
        assert running.ready.vocab_size == loaded.vocab_size
        done = [event for event in seen if isinstance(event, LayerDone)]
        assert [event.layer for event in done] == list(range(len(loaded.shape.layers)))
        read = [
            b"".join(running.memory.spans(i, j, 0, layer.num_rows(j, len(PROMPT)), held.pages, held.state_pages))
            for i, layer in enumerate(loaded.shape.layers)
            for j in range(len(layer.tensors))
        ]
        assert read == expected_bytes(model)
        stream.close()
        await eventually_async(lambda: running.front.stats.pages_used == 0)


async def test_only_what_cannot_be_ignored_ends_the_engine_before_its_front_does(model: Path) -> None:
    async with engine(model) as running:
        pid = engine_of(os.getpid())
        stream = running.front.open(request(50), Mode.SERVE)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert len(await until_finished(stream)) == 50
        stream = running.front.open(request(2000), Mode.SERVE)
        await stream.next()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=f"process {pid} was killed by SIGKILL"):
            await until_finished(stream)


async def test_a_broken_checkpoint_is_a_typed_error(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = next(broken.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="safetensors"):
        async with engine(broken):
            pytest.fail("it started")


async def test_engines_and_instances_killed_one_after_another(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    before = shared_memory()
    file = write_fleet_file(tmp_path, model)
    raw = yaml.safe_load(file.read_text())
    raw["clusters"][1]["instances"].append({"name": "west-decode-1", "role": "decode"})
    file.write_text(yaml.safe_dump(raw))
    async with processes(file, tmp_path / "logs") as fleet:
        expected = await fleet.ask(prompt_of(LONG_WORDS), prefill="remote")
        await fleet.throttle(gbit_s=0.01)
        account = await _losing_its_engine(fleet, ("west-decode-0", "west-decode-1"))
        assert account["token_ids"] == expected["token_ids"]
        left = account["decode"]["instance"]
        # Decode holds the prompt's pages by now: what is left to cross must take longer than the gauge is old.
        await fleet.throttle(gbit_s=0.002)
        account = await _losing_its_engine(fleet, ("east-prefill-0",))
        # Its own words, unless the instance's end overtakes them.
        assert account["fallback"] in ("engine_failed", "peer_lost", "cancelled")
        assert account["decode"]["instance"] == left
        assert account["token_ids"] == expected["token_ids"]
        await _losing_its_front(fleet, left)
    assert list(scratch.iterdir()) == []
    assert shared_memory() <= before


async def _losing_its_engine(fleet: RunningFleet, names: tuple[str, ...]) -> dict[str, Any]:
    """The account of a request during whose prefill an instance that works for it lost its engine."""
    asking, busy = await _seen_at_work(fleet, names)
    child = fleet.fleet.child(busy)
    os.kill(engine_of(child.process.pid), signal.SIGKILL)
    account = await asking
    assert await child.process.wait() == 2
    said = (fleet.logs / child.spec.log_name).read_text()
    assert "was killed by SIGKILL; all its requests fail" in said
    assert "Traceback" not in said
    return account


async def _seen_at_work(fleet: RunningFleet, names: tuple[str, ...]) -> tuple[asyncio.Task[dict[str, Any]], str]:
    """A request that is being answered, and the first of the instances that works for it."""
    while True:
        asking = asyncio.create_task(fleet.ask(prompt_of(LONG_WORDS), prefill="remote"))
        while not asking.done():
            for name in names:
                if await fleet.metric(name, "prfaas_requests_running"):
                    return asking, name
        await asking  # faster than we looked


async def _losing_its_front(fleet: RunningFleet, name: str) -> None:
    """Kills an instance while it streams, and sees its engine go."""
    process = fleet.fleet.child(name).process
    pid = engine_of(process.pid)
    stream = await fleet.client.completions.create(
        model="prfaas-demo", prompt="a", max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
    )
    await anext(stream)
    process.kill()
    await eventually_async(lambda: not alive(pid))
    with pytest.raises(openai.APIError):
        [chunk async for chunk in stream]
