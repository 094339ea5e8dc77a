"""Following many instances at once, over real sockets: nothing is lost, and threads do not grow with them."""

import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import InstanceId
from prfaas.gateway.directory import Directory, Known
from prfaas.gateway.kv_follower import KvFollower
from prfaas.telemetry.metrics import RouterMetrics
from tests.control.kv_rig import Life, life, removed, stored, until
from tests.gateway.running_router import fleet_config

PUBLISHERS = 50
THREADS = 4
"""Two of the context that is shared; the rest leaves room for what others in this process start."""


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def info(number: int, publisher: Life, epoch: int = 1) -> pb.InstanceInfo:
    return pb.InstanceInfo(
        instance_id=f"i{number}",
        epoch=epoch,
        cluster="home",
        model_fingerprint="f",
        block_tokens=4,
        kv_events_address=publisher.events,
        kv_replay_address=publisher.replay,
    )


@asynccontextmanager
async def follower(model: Path, directory: Directory) -> AsyncIterator[KvFollower]:
    config = fleet_config(model)
    dialer = Dialer(config, config.router_cluster)
    following = KvFollower(directory, dialer, RouterMetrics(CollectorRegistry()), probe_s=0.2)
    try:
        yield following
    finally:
        await following.close()
        await dialer.close()


def os_threads() -> int:
    """Those of libzmq are none of Python's."""
    return len(list(Path(f"/proc/{threading.get_native_id()}/task").iterdir()))


async def test_many_publishers_are_followed_by_few_threads(model: Path) -> None:
    directory = Directory(has_states=False)
    async with AsyncExitStack() as running:
        lives = [await running.enter_async_context(life()) for _ in range(PUBLISHERS)]
        before = os_threads()
        following = await running.enter_async_context(follower(model, directory))
        following.reconcile([info(number, one) for number, one in enumerate(lives)])
        for number, one in enumerate(lives):
            one.tell(stored(*map(name, range(number + 1))), removed(name(0)))
        ids = [InstanceId(f"i{number}") for number in range(PUBLISHERS)]
        await until(lambda: all(directory.known(one).blocks == number for number, one in enumerate(ids)))
        assert all(following.in_step(one) for one in ids)
        assert os_threads() - before <= THREADS
        for one in lives:
            with one.lossy():
                one.tell(stored(name(1000)))
            one.tell(stored(name(1001)))
        await until(lambda: directory.total == Known(sum(range(PUBLISHERS)) + 2 * PUBLISHERS, 0))
        following.reconcile([info(0, lives[0], epoch=2)])
        assert not following.in_step(ids[1])
        await until(lambda: directory.total == Known(2, 0))


async def test_who_does_not_answer_is_not_in_step(model: Path) -> None:
    directory = Directory(has_states=False)
    async with life() as one, follower(model, directory) as following:
        unheard = info(0, one)
        unheard.kv_replay_address = "127.0.0.1:9"
        following.reconcile([unheard, info(1, one)])
        await until(lambda: following.in_step(InstanceId("i1")))
        assert not following.in_step(InstanceId("i0"))
