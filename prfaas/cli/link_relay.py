"""`prfaas link`: asks the relays of a fleet file how their links are, and changes them in flight. Knows no shaping."""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import msgspec
from rich.console import Console
from rich.table import Table

from prfaas.config.sections import FleetConfig, LinkSection
from prfaas.core.errors import ConfigError, PeerLostError
from prfaas.relay.link import LinkState

ANSWER_WITHIN_S = 5.0


class LinkRow(msgspec.Struct, frozen=True):
    """A link as its relay has it now."""

    link: str
    state: LinkState


def relayed(config: FleetConfig, name: str | None) -> list[LinkSection]:
    """The link of that name, or all, as far as a relay shapes them. Raises ConfigError where there is none."""
    known = ", ".join(link.name for link in config.links) or "none"
    chosen = [link for link in config.links if name in (None, link.name)]
    if not chosen:
        raise ConfigError(f"no link is called {name}; the file has: {known}" if name else "the file has no links")
    shaped = [link for link in chosen if link.relay]
    if not shaped:
        raise ConfigError(
            f"no relay shapes {', '.join(link.name for link in chosen)}: a real link is as it is; to emulate one here, "
            "give it relay: {listen: HOST:PORT}"
        )
    return shaped


def read(link: LinkSection) -> LinkRow:
    """Raises PeerLostError where nothing, or something else, answers."""
    return _ask(link, "GET", None)


def change(link: LinkSection, changes: dict[str, float | bool]) -> LinkRow:
    """The state afterwards. Raises ConfigError for what the relay refuses, PeerLostError where none answers."""
    if not changes:
        raise ConfigError("nothing to change: give --gbit-s, --rtt-ms, --jitter-ms, --up or --down")
    return _ask(link, "PUT", msgspec.json.encode(changes))


def show(rows: Sequence[LinkRow], console: Console) -> None:
    """One line for each."""
    table = Table("link", "Gbit/s", "round trip, ms", "jitter, ms", "state", "connections", "MB each way", "resets")
    for row in rows:
        state, profile = row.state, row.state.profile
        up = "down" if not state.up else "stalled" if profile.stalled else "up"
        carried = f"{state.bytes_forward / 1e6:.1f} / {state.bytes_backward / 1e6:.1f}"
        numbers = (f"{profile.gbit_s:g}", f"{profile.rtt_ms:g}", f"{profile.jitter_ms:g}")
        table.add_row(row.link, *numbers, up, str(state.connections), carried, str(state.resets))
    console.print(table)


def _ask(link: LinkSection, method: str, body: bytes | None) -> LinkRow:
    url = f"http://{link.dial_through}/link"
    try:
        with build_opener(ProxyHandler({})).open(Request(url, body, method=method), timeout=ANSWER_WITHIN_S) as answer:
            return LinkRow(link.name, msgspec.json.decode(answer.read(), type=LinkState))
    except HTTPError as error:
        with error:
            told = error.read().decode(errors="replace").strip()
        if error.code == HTTPStatus.BAD_REQUEST:
            raise ConfigError(f"{link.name}: {told}") from error
        raise PeerLostError(
            f"{url} refuses: {told or error}; ask on the machine of the relay of {link.name}"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise PeerLostError(
            f"{url} does not answer as a relay: {error}; is the fleet of this file running here, with this port? "
            f"`prfaas up`, or `prfaas relay --link {link.name}`, starts it"
        ) from error
