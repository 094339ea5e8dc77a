"""A way through an HTTP CONNECT proxy for what cannot ask one itself: a local port that leads to one far address.

Knows nothing of what passes through.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import h11

from prfaas.config.sections import split_address
from prfaas.core.errors import PeerLostError

READ_BYTES = 64 << 10
CONNECT_TIMEOUT_S = 10.0
HEAD_END = b"\r\n\r\n"

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def tunnel(proxy: str, target: str) -> AsyncIterator[str]:
    """host:port on this machine; whoever connects there reaches `target` through `proxy` (both host:port).

    Where the proxy refuses, or is not there, connections are accepted and end at once; a log line says why.
    """
    open_ends: set[asyncio.Task[None]] = set()
    was_told = False

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal was_told
        try:
            far_reader, far_writer = await _connect(proxy, target)
        except PeerLostError as error:
            # Whoever connects here tries again and again.
            log.log(logging.DEBUG if was_told else logging.WARNING, "%s", error)
            was_told = True
            return
        was_told = False
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))
        finally:
            far_writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ends.add(task)
        try:
            await lead(reader, writer)
        except asyncio.CancelledError:
            # asyncio's own callback of a cancelled connection would report it as an error.
            task.uncancel()
        finally:
            writer.close()
            open_ends.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        ending = list(open_ends)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await server.wait_closed()


async def _connect(proxy: str, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises PeerLostError naming both."""
    way = f"cannot reach {target} through {proxy}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*split_address(proxy))
            try:
                await _ask_proxy(reader, writer, target)
            except BaseException:
                writer.close()
                raise
    except TimeoutError:
        raise PeerLostError(f"{way}: no answer within {CONNECT_TIMEOUT_S:g} s") from None
    except (OSError, PeerLostError) as error:
        raise PeerLostError(f"{way}: {error}") from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, h11.ProtocolError) as error:
        raise PeerLostError(f"{way}: the proxy did not answer as one: {error}") from error
    return reader, writer


async def _ask_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
    client = h11.Connection(h11.CLIENT)
    request = client.send(h11.Request(method="CONNECT", target=target, headers=[("Host", target)]))
    assert request is not None
    writer.write(request)
    # Exactly the answer's head: what stands behind it is already the far end's.
    client.receive_data(await reader.readuntil(HEAD_END))
    answer = client.next_event()
    if not isinstance(answer, h11.Response) or answer.status_code // 100 != 2:
        status = answer.status_code if isinstance(answer, h11.Response) else "something else than an answer"
        raise PeerLostError(f"the proxy answered {status}")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until its source ends; then the other end is told so."""
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
