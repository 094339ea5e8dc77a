"""Targets asked in turns within a round, so that what the machine does meanwhile falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.gateway.http import AnswerError, Connection, post
from benchmarks.gateway.load import first_event_ms, rate, streams
from benchmarks.gateway.servers import Server
from benchmarks.gateway.targets import STRAIGHT

WARM_UP = 3
"""Asked of a connection before it counts."""
CONCURRENCY = 32
FIRST_CHUNKS = 100
"""Streams of which the median is taken."""

MakeBody = Callable[[], bytes]


@dataclass(slots=True)
class Loads:
    """Of one target, a figure of each round."""

    req_s: list[float] = field(default_factory=list)
    cpu_s_per_1k_requests: list[float] = field(default_factory=list)
    cpu_s_per_1k_chunks: list[float] = field(default_factory=list)
    first_chunk_ms: list[float] = field(default_factory=list)


async def answer_times(servers: Mapping[str, Server], make: MakeBody, rounds: int, each: int) -> dict[str, list[float]]:
    """Milliseconds of whole answers, one at a time, `each` of a target in a round."""
    times: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            # Of its own: some servers close what is silent while the others have their turns.
            connection = await Connection.to(server.url)
            for i in range(WARM_UP + each):
                taken_ms = await _timed(connection, post(server.chats, make()))
                if i >= WARM_UP:
                    times[name].append(taken_ms)
            connection.close()
    return times


async def loads(
    servers: Mapping[str, Server],
    make: MakeBody,
    stream: bytes,
    short_stream: bytes,
    rounds: int,
    seconds: float,
    stream_tokens: int,
) -> dict[str, Loads]:
    """Requests/s of many connections, streams beside each other, and the first chunk of a stream that is alone.

    Raises AnswerError for streams with fewer chunks than half of `stream_tokens`: that is not what was asked for.
    """
    measured = {name: Loads() for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            found = measured[name]
            at_once = await rate(server.chats, make, CONCURRENCY, seconds, server.pid)
            found.req_s.append(at_once.requests_per_s)
            found.cpu_s_per_1k_requests.append(at_once.cpu_s_per_1k_requests or 0.0)
            heard = await streams(server.chats, stream, CONCURRENCY, server.pid)
            if heard.events < CONCURRENCY * stream_tokens / 2:
                raise AnswerError(f"{name}: {heard.events} chunks in {CONCURRENCY} streams of {stream_tokens} tokens")
            found.cpu_s_per_1k_chunks.append(heard.cpu_s_per_1k_chunks or 0.0)
            found.first_chunk_ms.append(await first_event_ms(server.chats, short_stream, FIRST_CHUNKS))
    return measured


def added_ms(times: Mapping[str, Sequence[float]], name: str, share: float) -> float:
    """What `share` of the answers take at most, beyond the median of those without anything between."""
    return at(times[name], share) - statistics.median(times[STRAIGHT])


def at(values: Iterable[float], share: float) -> float:
    """The value that `share` of all are not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def _timed(connection: Connection, request: bytes) -> float:
    begun_s = time.perf_counter()
    await connection.ask(request)
    return (time.perf_counter() - begun_s) * 1e3
