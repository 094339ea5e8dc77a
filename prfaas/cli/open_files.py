"""How many files and sockets this process may have open. Knows nothing of what they are."""

import logging
import resource

log = logging.getLogger(__name__)


def allow_open_files(wanted: int) -> None:
    """Raises this process's limit to `wanted`, or as far as the system lets it, which a warning then says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        log.warning(
            "this process may open %d files, and router.max_connections needs %d: raise the limit (ulimit -Hn), or "
            "lower router.max_connections",
            possible,
            wanted,
        )
