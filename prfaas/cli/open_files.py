"""How many files and sockets this process may have open, and how many of them are for clients."""

import logging
import resource

from prfaas.config.sections import RouterSection

OTHER_FILES = 1024
"""That a router opens besides its clients' connections: four for each instance, certificates, the model's files."""

log = logging.getLogger(__name__)


def allow_open_files(wanted: int = 0) -> int:
    """Raises this process's limit as far as the system lets it, and returns how many of `wanted` there may be.

    Without a hard limit it becomes `wanted`, where that is more than it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    possible = max(soft, wanted if hard == resource.RLIM_INFINITY else hard)
    if possible > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        log.info("this process may open %d files instead of %d", possible, soft)
    return min(possible, wanted)


def within_open_files(router: RouterSection) -> RouterSection:
    """With no more connections than there may be: further ones are then answered and counted, not merely cut off."""
    wanted = router.max_connections + OTHER_FILES
    possible = allow_open_files(wanted)
    if possible == wanted:
        return router
    connections = max(possible - OTHER_FILES, possible // 2)
    log.warning(
        "this process may open %d files, and router.max_connections needs %d: it takes %d connections instead of %d; "
        "raise the limit (ulimit -Hn), or lower router.max_connections",
        possible,
        wanted,
        connections,
        router.max_connections,
    )
    return router.model_copy(update={"max_connections": connections})
