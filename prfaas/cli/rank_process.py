"""`python -m prfaas.cli.rank_process`: one of the ranks above 0 of a tensor-parallel engine, started by rank 0.

Rank 0 writes one line of settings to its input, and reads one line from its output: empty when the slice is loaded,
else why not. It ends when its input ends.
"""

import logging
import signal
import sys
import threading

from prfaas.cli.engine_process import end_with_parent, first_line
from prfaas.core.errors import PrfaasError
from prfaas.engine.settings import RankSettings
from prfaas.telemetry import logs

log = logging.getLogger(__name__)


def main() -> int:
    """Returns the exit code: 0 when the leader stopped, 1 when there is no model or the group broke."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = RankSettings.model_validate_json(first_line())
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    logs.set_up(f"{settings.engine.instance}/rank{settings.rank}", settings.engine.log_level)
    try:
        return _follow(settings)
    except RuntimeError as error:
        log.critical("rank %d broke: %s", settings.rank, error)
        return 1


def _follow(settings: RankSettings) -> int:
    # Torch takes seconds to import; by now the parent's end is noticed.
    from prfaas.cli.load_rank import load_rank
    from prfaas.engine.parallel import follow
    from prfaas.models.distributed import Distributed, join_group, leave_group, meeting_place

    ranks = Distributed(settings.rank, settings.engine.engine.tensor_parallel)
    try:
        loaded = load_rank(settings.engine, ranks)
    except PrfaasError as error:
        _answer(f"{error.code} {error}")
        return 1
    _answer("")
    join_group(ranks, meeting_place(settings.meeting_fd))
    follow(loaded.model.decoder, loaded.cache, ranks)
    leave_group()
    return 0


def _answer(line: str) -> None:
    sys.stdout.write(line.replace("\n", " ") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
