"""`prfaas top`: the live page in a terminal, from the same events."""

import signal
import time
from types import FrameType

from rich.console import Console
from rich.live import Live

from prfaas.cli.fleet_stream import Seen, watch
from prfaas.cli.top_view import view
from prfaas.core.errors import PeerLostError

AGAIN_S = 2.0
"""Between two tries to reach a router that went away."""


def run_top(url: str, console: Console, *, once: bool) -> None:
    """Until Ctrl-C or SIGTERM; `once`: one look. Raises PeerLostError where the router cannot be reached at first."""
    stream = watch(url)
    first = next(stream, None)
    stream.close()
    if first is None:
        raise PeerLostError(f"{url} ended at once: the router is draining")
    if once or not console.is_terminal:
        console.print(view(first, console.size))
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        with Live(view(first, console.size), console=console, screen=True, auto_refresh=False) as live:
            _follow(url, live, first)
    except KeyboardInterrupt:
        return


def _follow(url: str, live: Live, last: Seen) -> None:
    """Never returns: what was seen last stays, with what is wrong, while the router is away."""
    trouble = ""
    while True:
        try:
            for last in watch(url):
                live.update(view(last, live.console.size), refresh=True)
            trouble = "the router ended the stream; trying again"
        except PeerLostError as error:
            trouble = f"connection lost; trying again: {error}"
        live.update(view(last, live.console.size, trouble), refresh=True)
        time.sleep(AGAIN_S)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 — the form of a handler
    raise KeyboardInterrupt
