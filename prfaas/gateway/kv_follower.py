"""Keeps the directory true: follows the KV events of every registered instance, over links as everything goes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import zmq

from prfaas.control.curve import CurveKeys
from prfaas.control.dial import Dialer
from prfaas.control.kv_order import Events, Note
from prfaas.control.kv_subscriber import PROBE_S, KvSubscriber, shared_context
from prfaas.control.tunnel import tunnel
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import WireError
from prfaas.core.ids import InstanceId
from prfaas.gateway.directory import Directory
from prfaas.telemetry.metrics import RouterMetrics

RESTART_S = 5.0
"""Between the end of following an instance because of what it sent, and a new beginning."""

log = logging.getLogger(__name__)


class KvFollower:
    """One task for each life of an instance that publishes what it caches."""

    def __init__(
        self,
        directory: Directory,
        dialer: Dialer,
        metrics: RouterMetrics,
        probe_s: float = PROBE_S,
        keys: CurveKeys | None = None,
    ) -> None:
        """With `keys` only events of instances that encrypt them are followed."""
        self._keys = keys
        self._directory = directory
        self._dialer = dialer
        self._metrics = metrics
        self._probe_s = probe_s
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._subscribers: dict[str, KvSubscriber] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        """Of all subscribers; none before the first."""

    @property
    def public_key(self) -> str:
        """What instances must know to let us in; empty where nothing is encrypted."""
        return self._keys.public if self._keys else ""

    def reconcile(self, fleet: Sequence[pb.InstanceInfo]) -> None:
        """Follows the instances of `fleet`, and no others; those that were followed already go on."""
        wanted = {(info.instance_id, info.epoch): info for info in fleet if info.kv_events_address}
        for key in self._tasks.keys() - wanted.keys():
            self._tasks.pop(key).cancel()
            self._directory.forget(InstanceId(key[0]))
            self._subscribers.pop(key[0], None)
        for key in wanted.keys() - self._tasks.keys():
            self._tasks[key] = asyncio.create_task(self._follow(wanted[key]))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self.reconcile([])
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._context:
            self._context.destroy(linger=0)
            self._context = None

    def in_step(self, instance_id: InstanceId) -> bool:
        """Whether all that the instance published until now is in the directory, as far as it could be heard."""
        subscriber = self._subscribers.get(instance_id)
        return subscriber is not None and subscriber.in_step

    async def _follow(self, info: pb.InstanceInfo) -> None:
        complained = False
        while True:
            self._directory.admit(InstanceId(info.instance_id), info.epoch, info.model_fingerprint, info.block_tokens)
            try:
                async with self._subscribed(info) as subscriber, aclosing(subscriber.follow()) as batches:
                    async for several in batches:
                        for events in several:
                            self._take(info, events)
                            # What has come already is read without a pause, and the loop has other work.
                            await asyncio.sleep(0)
            except WireError as error:
                self._metrics.kv_faults.inc()
                level = logging.DEBUG if complained else logging.WARNING
                log.log(level, "the KV events of %s cannot be read: %s", info.instance_id, error)
                complained = True
            except Exception:  # the task's edge: the instance serves on without being known
                self._metrics.kv_faults.inc()
                log.exception("following the KV events of %s broke", info.instance_id)
            await asyncio.sleep(RESTART_S)

    def _take(self, info: pb.InstanceInfo, events: Events) -> None:
        self._metrics.kv_events.inc(len(events))
        applied = self._directory.apply(InstanceId(info.instance_id), info.epoch, events)
        self._metrics.directory_dropped.inc(applied.dropped)
        self._metrics.kv_unusable.labels("unnamed").inc(applied.unnamed)
        self._metrics.kv_unusable.labels("private").inc(applied.private)

    @asynccontextmanager
    async def _subscribed(self, info: pb.InstanceInfo) -> AsyncIterator[KvSubscriber]:
        async with AsyncExitStack() as stack:
            events = await self._way(stack, info.kv_events_address, info.cluster)
            replay = await self._way(stack, info.kv_replay_address, info.cluster) if info.kv_replay_address else None
            curve = (self._keys, info.kv_events_key) if self._keys else None
            note = self._note_for(info)
            self._context = self._context or shared_context()
            subscriber = KvSubscriber(self._context, events, replay, note, self._probe_s, curve)
            self._subscribers[info.instance_id] = subscriber
            try:
                yield subscriber
            finally:
                if self._subscribers.get(info.instance_id) is subscriber:
                    del self._subscribers[info.instance_id]

    async def _way(self, stack: AsyncExitStack, address: str, cluster: str) -> str:
        """Where to connect in order to reach `address` in `cluster`: ZeroMQ itself knows no HTTP proxies."""
        proxy = self._dialer.proxy_to(cluster)
        return await stack.enter_async_context(tunnel(proxy, address)) if proxy else address

    def _note_for(self, info: pb.InstanceInfo) -> Callable[[Note], None]:
        counters = {
            "gap": self._metrics.kv_gaps,
            "replay": self._metrics.kv_replays,
            "snapshot": self._metrics.kv_snapshots,
        }

        def note(kind: Note) -> None:
            counters[kind].inc()
            log.debug("KV events of %s: %s", info.instance_id, kind)

        return note
