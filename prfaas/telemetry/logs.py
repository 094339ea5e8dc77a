"""Log lines for people: time, level, process name, logger, message; no line per request at the default level."""

import logging
import sys

from prfaas.core.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")


def set_up(process_name: str, level: str) -> None:
    """Sends the log of this process to stderr. Raises ConfigError for a `level` that is not in LEVELS."""
    if level not in LEVELS:
        raise ConfigError(f"--log-level {level!r} is not one of {', '.join(LEVELS)}")
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"%(asctime)s.%(msecs)03d %(levelname)-7s {process_name} %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    # At every request these say what our own metrics count.
    for noisy in ("uvicorn.access", "asyncio", "httpcore", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
