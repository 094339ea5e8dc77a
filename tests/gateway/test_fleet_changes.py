"""Stale, draining, restarted and departed instances, as clients and operators see it."""

from openai.types.chat import ChatCompletionMessageParam

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from tests.gateway.running_router import RunningRouter

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


async def ask(router: RunningRouter) -> None:
    await router.openai.chat.completions.create(model="tiny", messages=ASK)


async def test_a_stale_instance_gets_nothing_until_it_is_heard_again(router: RunningRouter) -> None:
    silent, heard = await router.add("decode-1"), await router.add("decode-2")
    router.clock.now_s += 40
    await router.register(heard)
    await ask(router)
    assert (len(silent.calls), len(heard.calls)) == (0, 1)
    assert await router.heartbeat(silent)
    await ask(router)
    assert len(silent.calls) == 1


async def test_a_draining_instance_gets_nothing(router: RunningRouter) -> None:
    draining, other = await router.add("decode-1"), await router.add("decode-2")
    draining.load = pb.Load(draining=True)
    await router.heartbeat(draining)
    await ask(router)
    assert (len(draining.calls), len(other.calls)) == (0, 1)


async def test_requests_spread_between_heartbeats(router: RunningRouter) -> None:
    fakes = [await router.add(f"decode-{i}") for i in range(3)]
    for _ in range(6):
        await ask(router)
    assert [len(fake.calls) for fake in fakes] == [2, 2, 2]


async def test_channels_to_departed_instances_are_closed(router: RunningRouter) -> None:
    fake = await router.add()
    await ask(router)
    await router.dispatcher.prune()
    assert (fake.address, None) in router.dispatcher.calls._dialer._channels
    await FleetStub(router.control).Deregister(pb.DeregisterRequest(instance_id=fake.name, epoch=fake.epoch))
    await router.dispatcher.prune()
    assert not router.dispatcher.calls._dialer._channels
    await router.register(fake)
    await ask(router)


async def test_ready_follows_the_decode_instances(router: RunningRouter) -> None:
    async def ready() -> tuple[int, list[str]]:
        response = await router.http.get("/ready")
        body = response.json()
        assert body["ready"] == (response.status_code == 200)
        assert ("retry-after" in response.headers) == (response.status_code == 503)
        return response.status_code, body["reasons"]

    assert await ready() == (503, ["no decode instance has registered"])
    await router.add("prefill-1", role=pb.ROLE_PREFILL)
    assert (await ready())[0] == 503
    fake = await router.add("decode-1")
    assert await ready() == (200, [])
    fake.load = pb.Load(draining=True)
    await router.heartbeat(fake)
    assert await ready() == (503, ["decode-1 is draining, heard 0.0 s ago"])
    router.clock.now_s += 31
    assert await ready() == (503, ["decode-1 is stale, heard 31.0 s ago"])


async def test_fleet_lists_everything(router: RunningRouter) -> None:
    fake = await router.add("decode-1", load=pb.Load(pages_used=3, pages_total=10, waiting_tokens=7))
    router.clock.now_s += 2.5
    fleet = (await router.http.get("/fleet")).json()
    assert (fleet["model"], fleet["threshold_tokens"], fleet["draining"]) == ("tiny", 100, False)
    nothing = {"blocks": 0, "snapshots": 0}
    assert fleet["clusters"] == [
        {"name": "home", "kind": "pd", "profile_measured": False, "prefixes": nothing},
        {"name": "second", "kind": "pd", "profile_measured": False, "prefixes": nothing},
        {"name": "far", "kind": "prfaas", "profile_measured": False, "prefixes": nothing},
    ]
    (instance,) = fleet["instances"]
    assert instance["name"] == "decode-1"
    assert (instance["cluster"], instance["role"], instance["state"]) == ("home", "decode", "up")
    assert instance["age_s"] == 2.5
    assert instance["control_address"] == fake.address
    assert instance["load"]["pages_used"] == 3
    assert instance["load"]["waiting_tokens"] == 7


async def test_health_and_metrics(router: RunningRouter) -> None:
    await router.add()
    response = await router.http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["x-request-id"].startswith("req-")
    router.clock.now_s += 100
    metrics = await router.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'prfaas_router_instances{cluster="home",role="decode",state="stale"} 1.0' in metrics.text
    assert 'prfaas_router_requests_total{endpoint="/health",status="200"} 1.0' in metrics.text
