"""Requests through a whole fleet: the same tokens wherever the prompt is prefilled, and every byte accounted for."""

import asyncio
from pathlib import Path

import openai
import pytest

from prfaas.core.model_files import read_config
from prfaas.core.shape import model_shape
from tests.eventually import eventually_async
from tests.fleet.rig import THRESHOLD, prompt_of, running


async def test_threshold_decides_and_the_account_says_what_happened(model: Path) -> None:
    shape = model_shape(read_config(model), "float32")
    async with running(model) as fleet:
        short, long = await fleet.ask(prompt_of(50)), await fleet.ask(prompt_of(500))
        assert not short.crossed
        assert short.account["prefill"]["instance"] == "west-p"
        assert long.crossed
        assert long.account["prefill"] == {
            "cluster": "east",
            "instance": "east-p",
            "tokens_computed": long.account["prefill"]["tokens_computed"],
            "tokens_reused": 0,
            "tokens_fetched": 0,
            "fetched_from": None,
        }
        for answer in (short, long):
            tokens = answer.account["prefill"]["tokens_computed"]
            assert (tokens > THRESHOLD) == answer.crossed
            assert answer.account["kv"]["bytes_raw"] == shape.cache_bytes(tokens)
            assert answer.account["kv"]["bytes_wire"] >= shape.cache_bytes(tokens)
            assert answer.account["kv"]["codec"] == "raw"
            assert len(answer.tokens) == 8
            assert answer.account["ttft_ms"] >= answer.account["prefill_ms"] > 0
        assert fleet.relay.stats().bytes_forward + fleet.relay.stats().bytes_backward > shape.cache_bytes(500)


async def test_tokens_are_equal_for_local_and_remote_prefill_run_concurrently(model: Path) -> None:
    lengths = [1, 2, 15, 16, 17, 31, 33, 64, 65, 100, 129, 200, 255, 300, 444]
    prompts = [prompt_of(n, skip=7 * n) for n in lengths]
    async with running(model) as fleet:
        asks = [fleet.ask(p, 12, prefill=where) for p in prompts for where in ("local", "remote")]
        answers = await asyncio.gather(*asks)
        for local, remote in zip(answers[::2], answers[1::2], strict=True):
            assert (local.crossed, remote.crossed) == (False, True)
            assert local.tokens == remote.tokens
        assert len({tuple(a.tokens) for a in answers}) == len(prompts)


async def test_sampled_tokens_are_equal_too(model: Path) -> None:
    async with running(model) as fleet:
        asks = [
            fleet.ask(prompt_of(80), 16, prefill=where, temperature=1.2, top_p=0.9, seed=11)
            for where in ("local", "remote")
        ]
        local, remote = await asyncio.gather(*asks)
        assert local.tokens == remote.tokens
        other = await fleet.ask(prompt_of(80), 16, temperature=1.2, top_p=0.9, seed=12)
        assert other.tokens != local.tokens


async def test_one_token_answers(model: Path) -> None:
    async with running(model) as fleet:
        local, remote = [await fleet.ask(prompt_of(20), 1, prefill=where) for where in ("local", "remote")]
        assert local.tokens == remote.tokens
        assert local.finish_reason == "length"


async def test_more_requests_than_the_pools_hold_all_end(model: Path) -> None:
    small = {"engine": {"num_pages": 100, "max_running_requests": 3}}
    async with running(model, **small) as fleet:
        answers = await asyncio.gather(*(fleet.ask(prompt_of(60 + i), 4) for i in range(20)))
        assert all(len(a.tokens) == 4 for a in answers)
        assert max(a.account["queue_ms"] for a in answers) > 0


async def test_what_no_pool_can_hold_is_refused_at_once(model: Path) -> None:
    async with running(model, engine={"num_pages": 40}) as fleet:
        with pytest.raises(openai.APIStatusError) as caught:
            await fleet.ask(prompt_of(500))
        assert caught.value.status_code == 400
        assert "no room for an answer in the context" in str(caught.value)
        assert (await fleet.ask(prompt_of(5))).tokens


@pytest.mark.parametrize("words", [20, 700])
async def test_a_client_that_leaves_frees_everything_everywhere(model: Path, words: int) -> None:
    async with running(model) as fleet:
        stream = await fleet.client.completions.create(
            model="tiny", prompt=prompt_of(words), max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        )
        async for _ in stream:
            break
        await stream.close()
        await fleet.settled()


async def test_a_client_that_leaves_during_prefill_frees_everything(model: Path) -> None:
    async with running(model) as fleet:
        asking = asyncio.create_task(fleet.ask(prompt_of(3000), 5, prefill="remote"))
        east = fleet.instances["east-p"].server.front
        await eventually_async(lambda: east.stats.pages_used > 0)
        asking.cancel()
        await fleet.settled()


async def test_decode_alone_serves_from_end_to_end(model: Path) -> None:
    async with running(model) as fleet:
        expected = await fleet.ask(prompt_of(400))
        await fleet.stop("west-p")
        await fleet.stop("east-p")
        answer = await fleet.ask(prompt_of(400))
        assert answer.account["prefill"]["instance"] == "west-d"
        assert answer.account["kv"]["bytes_wire"] == 0
        assert answer.tokens == expected.tokens
