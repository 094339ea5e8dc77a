"""Cached prefixes that are fetched from other instances for requests that were announced here.

A fetch begins with the announcement. The request waits for it as long as that is worth it, and is computed from
whatever is cached then. Knows no wire: `Fetcher` moves the bytes, the engine keeps them.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError
from prfaas.core.request import Request
from prfaas.engine.messages import Admitted, KeepPrefix
from prfaas.instance.fetch import Fetcher, Undelivered
from prfaas.instance.fetched import Fetched
from prfaas.instance.front import Front
from prfaas.instance.stream import RequestStream
from prfaas.telemetry.prefix_fetch_metrics import PrefixFetchMetrics
from prfaas.transport.inbox import Received

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Fetches; they share the link with prefills, and each holds memory that requests may want."""
LEAST_WAIT_S = 0.25
"""What is computed sooner than this is not worth a decision."""
REMEMBERED = 4096
"""Requests that came last: what is announced of them comes too late."""

Key = tuple[str, tuple[int, ...]]
"""Salt and tokens: what makes two prefixes one."""


@dataclass(eq=False, slots=True)
class _Fetch:
    prefix: Request
    source: pb.CacheSource
    task: "asyncio.Task[Fetched | None] | None" = None
    wanted_by: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    """Requests that are to come or wait, and when their announcement is forgotten."""
    missing_tokens: int = 0
    """To compute, if it does not come."""


class PrefixFetches:
    """All of one instance, on one event loop."""

    def __init__(
        self,
        front: Front,
        fetcher: Fetcher,
        metrics: PrefixFetchMetrics,
        clock: Clock,
        *,
        stall_s: float,
        announced_s: float,
        prefill_s: Callable[[int], float | None],
    ) -> None:
        """`announced_s`: how long what was announced is kept. `prefill_s` as for `Fetcher`; while it does not know, a
        request waits for `stall_s`."""
        self._front = front
        self._fetcher = fetcher
        self._metrics = metrics
        self._clock = clock
        self._stall_s = stall_s
        self._announced_s = announced_s
        self._prefill_s = prefill_s
        self._fetches: dict[Key, _Fetch] = {}
        """Under way."""
        self._by_request: dict[str, _Fetch] = {}
        """Those that have ended too, until their request comes or is forgotten."""
        self._came: OrderedDict[str, None] = OrderedDict()

    @property
    def bytes_arrived(self) -> int:
        """Grows while anything comes."""
        return self._fetcher.bytes_arrived

    def begin(self, request_id: str, prefix: Request, source: pb.CacheSource) -> None:
        """Fetches `prefix` for a request to come, unless that is pointless now; the result is counted."""
        if request_id in self._came:
            self._count("late", request_id, "its request is here already")
            return
        self.cancel(request_id)
        key = prefix.cache_salt, prefix.prompt_token_ids
        fetch = self._fetches.get(key)
        if fetch is None:
            if len(self._fetches) >= AT_ONCE:
                self._count("busy", request_id, f"{AT_ONCE} others are being fetched")
                return
            fetch = self._fetches[key] = _Fetch(prefix, source, missing_tokens=prefix.prompt_tokens)
            fetch.task = asyncio.create_task(self._run(key, fetch))
            self._metrics.under_way.inc()
        expiry = asyncio.get_running_loop().call_later(self._announced_s, self.cancel, request_id)
        fetch.wanted_by[request_id] = expiry
        self._by_request[request_id] = fetch

    async def wait(self, request_id: str) -> Fetched | None:
        """The request has come. Returns when its prefix has, or when it is better computed; None: nothing came."""
        self._came[request_id] = None
        if len(self._came) > REMEMBERED:
            self._came.popitem(last=False)
        fetch = self._by_request.get(request_id)
        if fetch is None or fetch.task is None:
            return None
        fetch.wanted_by[request_id].cancel()
        began_s = self._clock()
        try:
            done, _ = await asyncio.wait({fetch.task}, timeout=self._worth_s(fetch))
        finally:
            self.cancel(request_id)
            self._metrics.waited.observe(self._clock() - began_s)
        if not done:
            self._metrics.given_up.inc()
            log.warning("request %s: its prefix takes too long to come; it is computed", request_id)
            return None
        return None if fetch.task.cancelled() else fetch.task.result()

    def cancel(self, request_id: str) -> bool:
        """The request needs no fetch (any more); one that nobody else waits for ends. False: there was none."""
        fetch = self._by_request.pop(request_id, None)
        if fetch is None:
            return False
        fetch.wanted_by.pop(request_id).cancel()
        if not fetch.wanted_by and fetch.task is not None:
            fetch.task.cancel()
        return True

    async def close(self) -> None:
        """Gives everything up, and returns when nothing holds memory any more."""
        for request_id in list(self._by_request):
            self.cancel(request_id)
        await asyncio.gather(*(f.task for f in self._fetches.values() if f.task), return_exceptions=True)

    def _worth_s(self, fetch: _Fetch) -> float:
        seconds = self._prefill_s(fetch.missing_tokens)
        return self._stall_s if seconds is None else max(seconds, LEAST_WAIT_S)

    async def _run(self, key: Key, fetch: _Fetch) -> Fetched | None:
        result, why = "cancelled", "nobody waits for it"
        try:
            fetched = await self._fetch(fetch)
            result, why = ("ok", "") if fetched else ("held", "all of it is cached here")
            return fetched
        except PrfaasError as error:
            result, why = error.code, str(error)
            return None
        except Exception:  # a fetch's edge: whatever it was, the prompt can be computed
            result, why = PrfaasError.code, "a fault of ours"
            log.exception("a prefix could not be fetched from %s", fetch.source.instance_id)
            return None
        finally:
            del self._fetches[key]
            self._metrics.under_way.dec()
            self._count(result, fetch.prefix.request_id, why)

    async def _fetch(self, fetch: _Fetch) -> Fetched | None:
        """None where nothing was missing. Raises the PrfaasError that kept it from coming."""
        stream = self._front.reserve(fetch.prefix)
        try:
            admitted = await stream.next()
            assert isinstance(admitted, Admitted)
            fetch.missing_tokens = fetch.prefix.prompt_tokens - admitted.cached_tokens
            if not fetch.missing_tokens:
                return None
            received = await self._received(stream, admitted, fetch)
            fetched = Fetched(fetch.source.instance_id, admitted.held_tokens, fetch.prefix.prompt_tokens)
            self._front.send(KeepPrefix(stream.request_id, tuple(fetch.wanted_by), received.lossy))
            self._metrics.tokens.inc(fetched.end - fetched.first)
            return fetched
        finally:
            # By now no byte can arrive any more.
            stream.close()

    async def _received(self, stream: RequestStream, admitted: Admitted, fetch: _Fetch) -> Received:
        source = fetch.source
        target = pb.PrefillTarget(
            instance_id=source.instance_id, cluster=source.cluster, control_address=source.control_address
        )
        due_s = self._clock() + self._announced_s
        fetching = asyncio.create_task(self._fetcher.fetch(fetch.prefix, admitted, target, due_s, cached_only=True))
        # The engine may want the memory back.
        taken = asyncio.create_task(stream.next())
        try:
            await asyncio.wait({fetching, taken}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                raise AssertionError(f"{taken.result()} says nothing to a fetch")
            outcome = fetching.result()
        finally:
            fetching.cancel()
            taken.cancel()
            await asyncio.gather(fetching, taken, return_exceptions=True)
        if isinstance(outcome, Undelivered):
            raise outcome.error
        return outcome

    def _count(self, result: str, request_id: str, why: str) -> None:
        self._metrics.fetches.labels(result).inc()
        if why:
            log.info("request %s: its prefix is not fetched: %s", request_id, why)
