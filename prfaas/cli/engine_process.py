"""`python -m prfaas.cli.engine_process`: an instance's engine. Its parent writes one line of settings to its input.

It ignores SIGINT and SIGTERM, since its requests end when its parent has drained: it ends when it is told to, or at
once when its input ends, which is when the parent is gone.
"""

import gc
import logging
import os
import signal
import sys
import threading

from prfaas.cli.built_engine import BuiltEngine
from prfaas.core.errors import PrfaasError
from prfaas.engine.link import EngineLink, connect
from prfaas.engine.messages import NotReady
from prfaas.engine.settings import EngineSettings
from prfaas.telemetry import logs

log = logging.getLogger(__name__)

STDIN = 0


def main() -> int:
    """Returns the exit code: 0 after `Stop`, 1 when there is no model or the loop broke."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = EngineSettings.model_validate_json(first_line())
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    logs.set_up(f"{settings.instance}/engine", settings.log_level)
    try:
        return _serve(settings)
    except Exception:  # the process's edge: the log must say why it ends
        log.critical("the engine broke", exc_info=True)
        return 1


def _serve(settings: EngineSettings) -> int:
    link = connect(settings.link_fd)
    try:
        built = _build(settings, link)
    except PrfaasError as error:
        link.send([NotReady(error.code, str(error))])
        # Whatever comes is `Stop`: our end before the parent has read why would be all that it sees.
        link.take(wait=True)
        link.close()
        return 1
    # The collector need not look through what was loaded again and again between steps: it lives as long as we do.
    gc.collect()
    gc.freeze()
    link.send([built.ready])
    built.engine.run()
    built.stop()
    link.close()
    return 0


def _build(settings: EngineSettings, link: EngineLink) -> BuiltEngine:
    """Raises ModelError, ConfigError or EngineError."""
    # Torch takes seconds to import; by now the parent's end is noticed. An emulated engine does without.
    if settings.engine.emulated is not None:
        from prfaas.cli.build_emulated_engine import build_emulated_engine

        return build_emulated_engine(settings, link)
    from prfaas.cli.build_engine import build_engine

    return build_engine(settings, link)


def first_line() -> bytes:
    """What the parent has to say. Exits when there is no parent that says anything."""
    # Not through sys.stdin: the thread below would hold its lock when the interpreter ends.
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(STDIN, 65536)
        if not more:
            raise SystemExit("no settings on standard input: this program is started by `prfaas serve`")
        line += more
    return line


def end_with_parent() -> None:
    """Ends this process when its input does; does not return."""
    while os.read(STDIN, 64):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
