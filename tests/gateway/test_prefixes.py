"""What instances say of their caches, and what the router makes of it: placement, announcements, counts."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessageParam

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.config.sections import FleetConfig
from prfaas.control.kv_events import BlockStored
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.core.errors import PeerLostError
from prfaas.core.ids import BlockHash
from prfaas.gateway import kv_follower
from prfaas.gateway.directory import Known
from tests.control.kv_rig import Life, life
from tests.gateway.fake_instance import Fail, FakeInstance
from tests.gateway.running_router import RunningRouter, eventually, fleet_config, router_of
from tests.relay.harness import running_relay

PROMPT = list(range(10, 51))  # 41 tokens: ten whole blocks of four
LONG = list(range(10, 211))
TRACED = {"x-prfaas-trace": "1"}


def names(prompt: Sequence[int] = PROMPT, salt: str = "", fingerprint: str = "f1") -> list[BlockHash]:
    return block_hashes(root_hash(fingerprint, salt), prompt, 4)


def holds(publisher: Life, blocks: Sequence[BlockHash], *, snapshots: bool = True) -> None:
    """Says that these blocks are cached, with a snapshot at the end of each."""
    for group, kind in ((0, "full_attention"), (1, "mamba"))[: 2 if snapshots else 1]:
        publisher.tell(
            BlockStored(tuple(blocks), None, (), 4, None, "GPU", None, group_idx=group, kv_cache_spec_kind=kind)
        )


async def knows(router: RunningRouter, fake: FakeInstance, blocks: int) -> None:
    """Returns once the router has heard of so many blocks."""
    await eventually(lambda: router.directory.known(fake.name).blocks == blocks)  # type: ignore[arg-type] # a name is an id


async def complete(router: RunningRouter, prompt: Sequence[int] = PROMPT, **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "prompt": list(prompt), "max_tokens": 8} | fields
    response = await router.http.post("/v1/completions", json=body, headers=TRACED)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_a_prompt_goes_where_its_prefix_is(router: RunningRouter) -> None:
    async with life() as publisher:
        await router.add("decode-1")
        for name in ("p1", "p2", "p3"):
            await router.add(name, role=pb.ROLE_PREFILL, publisher=publisher if name == "p3" else None)
        decode, *_, third = router.fakes
        decode.account = {"tokens_reused": 32}
        holds(publisher, names()[:9])
        await eventually(lambda: router.directory.total == Known(9, 9))
        answer = await complete(router)
        assert decode.calls[0].prefill.instance_id == "p3"
        reason = "5 uncached tokens <= threshold 100; p3 has 36 of 41 tokens cached"
        assert answer["prfaas"]["placement"] == reason
        assert answer["prfaas"]["prefill"]["tokens_reused"] == 32
        assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 32}
        assert router.metric("prfaas_router_predicted_hit_tokens_total", cluster="home") == 36
        assert router.metric("prfaas_router_realised_hit_tokens_total", cluster="home") == 32
        assert router.metric("prfaas_router_overpredicted_hits_total", cluster="home") == 1
        assert router.metric("prfaas_router_overpredicted_hit_tokens_total", cluster="home") == 4
        announced = await third.announced.get()
        assert announced.request_id == decode.calls[0].request_id
        assert list(announced.block_hashes) == names()


async def test_kv_without_a_snapshot_is_of_no_use(router: RunningRouter) -> None:
    async with life() as publisher:
        await router.add("decode-1")
        fake = await router.add("p1", role=pb.ROLE_PREFILL, publisher=publisher)
        holds(publisher, names(), snapshots=False)
        await knows(router, fake, 10)
        answer = await complete(router)
        assert answer["prfaas"]["placement"] == "41 uncached tokens <= threshold 100"


async def test_a_cached_prompt_is_not_sent_far_away(router: RunningRouter) -> None:
    async with life() as publisher:
        await router.add("decode-1")
        near = await router.add("near", role=pb.ROLE_PREFILL, publisher=publisher)
        await router.add("far", role=pb.ROLE_PREFILL, cluster="far")
        await complete(router, LONG)
        holds(publisher, names(LONG)[:30])
        await knows(router, near, 30)
        await complete(router, LONG)
        assert [call.prefill.instance_id for call in router.fakes[0].calls] == ["far", "near"]


async def test_a_salt_is_a_cache_of_ones_own(router: RunningRouter) -> None:
    async with life() as publisher:
        fake = await router.add("decode-1", publisher=publisher)
        holds(publisher, names(salt="mine")[:9])
        await knows(router, fake, 9)
        for salt, cached in (("mine", True), ("yours", False), (None, False)):
            answer = await complete(router, cache_salt=salt)
            assert ("has 36 of 41 tokens cached" in answer["prfaas"]["placement"]) is cached
            assert fake.calls[-1].cache_salt == (salt or "")
        assert fake.announced.empty()


@pytest.mark.parametrize("salt", ["", "x" * 257, 7, ["a"], "\ud800"])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_salts_that_are_refused(router: RunningRouter, path: str, salt: Any) -> None:
    fake = await router.add()
    what = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "hi"}
    body = json.dumps({"model": "tiny", "cache_salt": salt} | what)
    response = await router.http.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert not fake.calls


async def test_a_salt_of_a_chat(router: RunningRouter) -> None:
    fake = await router.add()
    ask: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
    await router.openai.chat.completions.create(
        model="tiny", messages=ask, max_tokens=5, extra_body={"cache_salt": "ключ"}
    )
    assert fake.calls[0].cache_salt == "ключ"


async def test_announcements_that_fail_are_counted_and_harm_nobody(router: RunningRouter) -> None:
    async with life() as publisher:
        await router.add("decode-1")
        await router.add("p1", role=pb.ROLE_PREFILL, publisher=publisher, refuses_announcements=True)
        await complete(router)
        await eventually(lambda: router.metric("prfaas_router_announce_failures_total", code="peer_lost") == 1)


async def test_a_second_attempt_is_announced_under_its_own_name(router: RunningRouter) -> None:
    async with life() as publisher:
        first, second = await router.add("d1"), await router.add("d2")
        first.script = lambda _: [Fail(PeerLostError("gone"))]
        prefill = await router.add("p1", role=pb.ROLE_PREFILL, publisher=publisher)
        await complete(router)
        announced = [await prefill.announced.get(), await prefill.announced.get()]
        ids = {call.request_id for call in (*first.calls, *second.calls)}
        assert {message.request_id for message in announced} == ids
        assert len(ids) == 2
        assert all(list(message.block_hashes) == names() for message in announced)


async def test_instances_that_cache_nothing_hear_no_announcements(router: RunningRouter) -> None:
    await router.add("decode-1")
    fake = await router.add("p1", role=pb.ROLE_PREFILL)
    await complete(router)
    await router.dispatcher.calls.close()
    assert fake.announced.empty()


async def test_another_life_and_a_goodbye_are_forgotten(router: RunningRouter) -> None:
    async with life() as first, life() as second:
        fake = await router.add("decode-1", publisher=first)
        holds(first, names())
        await knows(router, fake, 10)
        fake.epoch, fake.publisher = 2, second
        await router.register(fake)
        await knows(router, fake, 0)
        holds(second, names()[:3])
        await knows(router, fake, 3)
        holds(first, names(LONG))
        await complete(router)
        assert router.directory.total == Known(3, 3)
        await FleetStub(router.control).Deregister(pb.DeregisterRequest(instance_id=fake.name, epoch=2))
        assert router.directory.total == Known(0, 0)


async def test_a_publisher_that_starts_again_at_the_same_place(router: RunningRouter) -> None:
    async with life() as first:
        fake = await router.add("decode-1", publisher=first)
        holds(first, names())
        await knows(router, fake, 10)
        await first.publisher.close()
        ports = [int(address.rpartition(":")[2]) for address in (first.events, first.replay)]
        async with life(*ports) as again:
            holds(again, names()[:2])
            await knows(router, fake, 2)


async def test_lost_events_are_asked_for_and_counted(router: RunningRouter) -> None:
    async with life() as publisher:
        fake = await router.add("decode-1", publisher=publisher)
        holds(publisher, names()[:1])
        await knows(router, fake, 1)
        with publisher.lossy():
            holds(publisher, names()[:5])
        await knows(router, fake, 5)
        assert router.metric("prfaas_router_kv_snapshots_total") >= 1
        assert router.metric("prfaas_router_kv_replays_total") >= 1
        assert router.metric("prfaas_router_kv_events_total") >= 3


async def test_an_instance_that_talks_nonsense_is_begun_with_anew_and_complained_of_once(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kv_follower, "RESTART_S", 0.01)
    async with life() as publisher:
        fake = await router.add(publisher=publisher)
        holds(publisher, names())
        await knows(router, fake, 10)
        while router.metric("prfaas_router_kv_faults_total") < 3:
            publisher.publisher._events.send_multipart([b"", bytes(8), b"nonsense"])
            await asyncio.sleep(0.01)
        await knows(router, fake, 10)
        assert [record.levelname for record in caplog.records if "cannot be read" in record.message] == ["WARNING"]
        assert not any(record.exc_info for record in caplog.records)


async def test_operators_see_what_is_known(router: RunningRouter) -> None:
    async with life() as publisher:
        fake = await router.add(publisher=publisher, load=pb.Load(pages_total=100, pages_used=7, pages_cached=60))
        holds(publisher, names())
        await knows(router, fake, 10)
        fleet = (await router.http.get("/fleet")).json()
        home = next(cluster for cluster in fleet["clusters"] if cluster["name"] == "home")
        assert home["prefixes"] == {"blocks": 10, "snapshots": 10}
        [instance] = fleet["instances"]
        assert instance["prefixes"] == {"blocks": 10, "snapshots": 10}
        assert instance["load"]["pages_cached"] == 60
        assert instance["block_tokens"] == 4
        assert instance["kv_events_address"] == publisher.events
        await router.http.get("/metrics")
        for part in ("kv", "state"):
            assert router.metric("prfaas_router_directory_entries", part=part) == 10


async def test_events_from_another_cluster_cross_the_link(model: Path) -> None:
    async with running_relay() as relay, life() as publisher:
        link = {"between": ["home", "far"], "gbit_s": 1, "proxy": f"127.0.0.1:{relay.port}"}
        config = FleetConfig.model_validate(fleet_config(model).model_dump() | {"links": [link]})
        async with router_of(config) as router:
            fake = await router.add("far-1", role=pb.ROLE_PREFILL, cluster="far", publisher=publisher)
            holds(publisher, names())
            await knows(router, fake, 10)
            assert relay.stats().connections > 0
        await eventually(lambda: relay.stats().connections == 0)
