"""Two attempts at one request side by side: whichever has the first token goes on. Knows no placements."""

import asyncio
from contextlib import suppress

from prfaas.core.errors import PrfaasError
from prfaas.gateway.attempt import Attempt
from prfaas.gateway.events import Event


async def within(attempt: Attempt, wait_s: float) -> Event | None:
    """Its next event if that comes in so many seconds. Raises what `Attempt.read` raises."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            return await attempt.read()
    # What came in the very moment was not taken: the wait was cut off, not the reading.
    return await attempt.read() if attempt.ready else None


async def race(first: Attempt, second: Attempt) -> tuple[Attempt, Event]:
    """The attempt that has an event first, and that event; the other one is ended, and so is one that fails meanwhile.

    Raises the PrfaasError of `first` where both fail. Whatever is raised, both are ended.
    """
    reading = {asyncio.create_task(attempt.read()): attempt for attempt in (first, second)}
    try:
        winner = await _first_with_an_event(reading)
    except BaseException:
        first.end()
        second.end()
        raise
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    attempt = reading[winner]
    (second if attempt is first else first).end()
    return attempt, winner.result()


async def _first_with_an_event(reading: dict[asyncio.Task[Event], Attempt]) -> asyncio.Task[Event]:
    pending = set(reading)
    while pending:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task, attempt in reading.items():  # of two that came at once, the first one's
            if not task.done():
                continue
            if (error := task.exception()) is None:
                return task
            if not isinstance(error, PrfaasError):
                raise error
            attempt.end()
    error = next(iter(reading)).exception()
    assert error, "nothing is pending and nobody has an event"
    raise error
