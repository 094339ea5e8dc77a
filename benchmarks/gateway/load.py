"""`python -m benchmarks.gateway.load URL`: latency, requests/s and CPU per chunk of whatever serves chats there."""

import asyncio
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from benchmarks.gateway.http import Connection, chunks, post

WARM_UP = 50
SENTENCE = "The lazy dog sleeps while the quick brown fox looks for another place to be. "


@dataclass(frozen=True, slots=True)
class Latency:
    """Of whole answers, one after the other."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Of whole answers, several at a time."""

    requests_per_s: float
    cpu_s_per_1k_requests: float | None
    """Of the process that was named."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Of streams at the same time; an event is a chunk as the client gets it, its first and last one included."""

    events: int
    seconds: float
    first_event_ms_p50: float
    cpu_s: float | None
    """Of the process that was named."""

    @property
    def cpu_s_per_1k_chunks(self) -> float | None:
        return None if self.cpu_s is None else self.cpu_s / self.events * 1e3


def chat(model: str, prompt_chars: int, max_tokens: int, *, stream: bool = False) -> bytes:
    """The body of a request."""
    text = (SENTENCE * (prompt_chars // len(SENTENCE) + 1))[:prompt_chars]
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": model, "messages": messages, "max_tokens": max_tokens, "stream": stream}).encode()


def cpu_s(pid: int) -> float:
    """What a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def latency(url: str, body: bytes, count: int) -> Latency:
    """One connection, one request at a time."""
    connection, request = await Connection.to(url), post(url, body)
    taken_ms = []
    for _ in range(WARM_UP + count):
        begun_s = time.perf_counter()
        await connection.ask(request)
        taken_ms.append((time.perf_counter() - begun_s) * 1e3)
    connection.close()
    counted = sorted(taken_ms[WARM_UP:])
    return Latency(statistics.median(counted), counted[int(len(counted) * 0.99)])


async def rate(url: str, body: bytes, concurrency: int, seconds: float, pid: int | None = None) -> Rate:
    """As many connections as `concurrency`, each with one request at a time."""
    request, done = post(url, body), 0
    until_s = time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal done
        connection = await Connection.to(url)
        while time.perf_counter() < until_s:
            await connection.ask(request)
            done += 1
        connection.close()

    begun_s, used_s = time.perf_counter(), cpu_s(pid) if pid else None
    await asyncio.gather(*(ask() for _ in range(concurrency)))
    per_s = done / (time.perf_counter() - begun_s)
    return Rate(per_s, None if pid is None or used_s is None else (cpu_s(pid) - used_s) / done * 1e3)


async def streams(url: str, body: bytes, concurrency: int, pid: int | None = None) -> Streams:
    """As many streams as `concurrency` at once, each the second request of its connection."""
    request = post(url, body)
    connections = [await Connection.to(url) for _ in range(concurrency)]
    for _ in range(2):
        used_s, begun_s = cpu_s(pid) if pid else 0.0, time.perf_counter()
        heard = await asyncio.gather(*(_stream(connection, request) for connection in connections))
    seconds = time.perf_counter() - begun_s
    cpu = cpu_s(pid) - used_s if pid else None
    for connection in connections:
        connection.close()
    return Streams(sum(events for events, _ in heard), seconds, statistics.median(first for _, first in heard), cpu)


async def first_event_ms(url: str, body: bytes, count: int) -> float:
    """Median over short streams, one after the other on one connection."""
    connection, request = await Connection.to(url), post(url, body)
    firsts_ms = [(await _stream(connection, request))[1] for _ in range(WARM_UP + count)]
    connection.close()
    return statistics.median(firsts_ms[WARM_UP:])


async def _stream(connection: Connection, request: bytes) -> tuple[int, float]:
    """Events, and milliseconds until the first one."""
    begun_s = time.perf_counter()
    answer = await connection.ask(request)
    assert connection.first_s is not None
    return chunks(answer), (connection.first_s - begun_s) * 1e3


def main(
    url: Annotated[str, typer.Argument(help="Where chats are posted, e.g. http://127.0.0.1:8000/v1/chat/completions.")],
    model: Annotated[str, typer.Option(help="Its name there.")],
    pid: Annotated[int | None, typer.Option(help="The process that serves there, whose CPU time is told.")] = None,
    prompt_chars: int = 1000,
    max_tokens: Annotated[int, typer.Option(help="Of an answer; of a streamed one, 64 times as many.")] = 8,
    concurrency: int = 32,
    seconds: float = 5.0,
    only: Annotated[str, typer.Option(help="latency, rate or streams; empty: all.")] = "",
) -> None:
    """Prints one JSON object."""
    whole = chat(model, prompt_chars, max_tokens)
    streamed = chat(model, prompt_chars, max_tokens * 64, stream=True)

    async def measure() -> dict[str, object]:
        found: dict[str, object] = {}
        if only in ("", "latency"):
            found |= asdict(await latency(url, whole, 2000))
        if only in ("", "rate"):
            found |= asdict(await rate(url, whole, concurrency, seconds, pid))
        if only in ("", "streams"):
            heard = await streams(url, streamed, concurrency, pid)
            alone_ms = await first_event_ms(url, chat(model, prompt_chars, 2, stream=True), 200)
            found |= asdict(heard) | {
                "cpu_s_per_1k_chunks": heard.cpu_s_per_1k_chunks,
                "first_event_ms_p50_alone": alone_ms,
            }
        return found

    print(json.dumps(uvloop.run(measure()), indent=1))


if __name__ == "__main__":
    typer.run(main)
