"""A router's `/fleet/events` as values, one a second. Knows nothing of how they are shown."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import msgspec

from prfaas.core.errors import PeerLostError
from prfaas.gateway.fleet_changes import FleetChange, FleetStart, merged
from prfaas.gateway.fleet_history import KEPT, Sample
from prfaas.gateway.fleet_reply import FleetReply

SILENT_S = 10.0
"""A router that says nothing for so long is away."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet as of the last event, and its last ten minutes."""

    fleet: FleetReply
    history: tuple[Sample, ...]


def watch(url: str) -> Generator[Seen, None, None]:
    """Until the router ends the stream. Raises PeerLostError where it cannot be reached, or falls silent."""
    address = f"{url.rstrip('/')}/fleet/events"
    try:
        with build_opener(ProxyHandler({})).open(address, timeout=SILENT_S) as answer:
            yield from seen(events(answer))
    except HTTPError as error:
        raise PeerLostError(f"{address} answers {error.code}: is a router of this version there?") from error
    except (OSError, ValueError, HTTPException) as error:
        raise PeerLostError(f"{address}: {error}; is the router up, and is --url its http address?") from error
    except msgspec.MsgspecError as error:
        raise PeerLostError(f"{address} is not a router of this version: {error}") from error


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """(name, data) of server-sent events of one line each, as the router sends them."""
    name = ""
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode()
        elif field == b"data":
            yield name, value


def seen(told: Iterable[tuple[str, bytes]]) -> Iterator[Seen]:
    """Raises msgspec.MsgspecError for what is no event of a router."""
    fleet: FleetReply | None = None
    history: deque[Sample] = deque(maxlen=KEPT)
    for name, data in told:
        if name == "start":
            start = msgspec.json.decode(data, type=FleetStart)
            fleet = start.fleet
            history = deque(start.history, KEPT)
        elif name == "change" and fleet is not None:
            change = msgspec.json.decode(data, type=FleetChange)
            fleet = merged(fleet, change)
            if change.latest is not None:
                history.append(change.latest)
        else:
            continue
        yield Seen(fleet, tuple(history))
