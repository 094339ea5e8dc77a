"""How many files and sockets this process may have open. Knows nothing of what they are."""

import logging
import resource

log = logging.getLogger(__name__)


def allow_open_files(wanted: int = 0) -> None:
    """Raises this process's limit as far as the system lets it; a warning says so where `wanted` is more than that.

    Without a hard limit it becomes `wanted`, where that is more than it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    possible = max(soft, wanted if hard == resource.RLIM_INFINITY else hard)
    if possible > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        log.info("this process may open %d files instead of %d", possible, soft)
    if possible < wanted:
        log.warning(
            "this process may open %d files, and router.max_connections needs %d: raise the limit (ulimit -Hn), or "
            "lower router.max_connections",
            possible,
            wanted,
        )
