"""An engine in a thread of the test's process, over the same sockets and shared memory as a process of its own."""

import asyncio
import os
import threading

from prfaas.cli.build_engine import build_engine
from prfaas.core.errors import PrfaasError
from prfaas.engine.engine import Engine
from prfaas.engine.link import connect
from prfaas.engine.messages import NotReady
from prfaas.engine.settings import EngineSettings


class EngineThread:
    """An `EngineHost` whose engine is within reach."""

    engine: Engine

    def __init__(self, settings: EngineSettings) -> None:
        # A process would inherit copies of the descriptors.
        copies = {"arena_fd": os.dup(settings.arena_fd), "link_fd": os.dup(settings.link_fd)}
        self._settings = settings.model_copy(update=copies)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._how = "the engine broke"
        self._thread = threading.Thread(target=self._run, name=f"{settings.instance}/engine", daemon=True)
        self._thread.start()

    async def ended(self) -> str:
        await self._ended.wait()
        return self._how

    async def stop(self, within_s: float) -> None:  # noqa: ARG002
        await self._ended.wait()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        link = connect(self._settings.link_fd)
        try:
            built = build_engine(self._settings, link)
            self.engine = built.engine
            link.send([built.ready])
            self.engine.run()
            built.stop()
        except PrfaasError as error:
            link.send([NotReady(error.code, str(error))])
            link.take(wait=True)
        except Exception as error:  # noqa: BLE001 - the thread's edge
            self._how = f"the engine broke: {error!r}"
        finally:
            link.close()
            self._loop.call_soon_threadsafe(self._ended.set)
