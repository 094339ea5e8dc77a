"""An emulated engine on a clock of its own: commands are given beforehand, and it runs until it has nothing to do."""

from collections.abc import Sequence

from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.emulated.pages import EmulatedPages
from prfaas.engine.emulated.runner import EmulatedRunner
from prfaas.engine.emulated.shape import emulated_shape
from prfaas.engine.emulated.timetable import Timetable
from prfaas.engine.engine import Engine
from prfaas.engine.memory import CacheMemory
from prfaas.engine.messages import Admitted, Command, Event, Stop, Submit
from prfaas.engine.prefixes import Prefixes
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode
from tests.engine.emulated.profiles import PROFILE

PAGE, VOCAB, EOS = 16, 50, 7
SHAPE = emulated_shape(PROFILE, 4096)
LAYOUT = lay_out(SHAPE, PAGE)


class Rig:
    """One engine; it is its own link, clock and sleep."""

    def __init__(self, pages: int = 200, step_tokens: int = 64) -> None:
        self.now_s = 1000.0
        self.events: list[tuple[float, Event]] = []
        """And when they came."""
        self._commands: list[Command] = []
        memory = memoryview(bytearray(LAYOUT.num_bytes(pages)))
        self.memory = CacheMemory(SHAPE, LAYOUT, memory)
        cache = PrefixCache(PagePool(pages), block_tokens=PAGE, state_pages=LAYOUT.state_pages, record_changes=True)
        scheduler = Scheduler(
            cache,
            SnapshotPolicy(PAGE, 64, 32),
            fingerprint="emulated",
            step_tokens=step_tokens,
            max_running=8,
            eos_token_ids=frozenset({EOS}),
        )
        runner = EmulatedRunner(
            PROFILE,
            SHAPE,
            EmulatedPages(SHAPE, LAYOUT, memory),
            Timetable(self.clock, self._sleep),
            vocab_size=VOCAB,
            eos_token_ids=(EOS,),
        )
        # The rig is all that the engine asks of a link.
        self.engine = Engine(scheduler, runner, SHAPE, cache, Prefixes(cache, None, self.clock, 60.0), self, self.clock)  # type: ignore[arg-type]

    def run(self, *commands: Command) -> list[Event]:
        """What the engine says to them until it has nothing to do."""
        told = len(self.events)
        self._commands += commands
        self.engine.run()
        return [event for _, event in self.events[told:]]

    def admitted(self, name: str) -> Admitted:
        return next(e for _, e in self.events if isinstance(e, Admitted) and e.request_id == name)

    def clock(self) -> float:
        return self.now_s

    def send(self, messages: Sequence[Event]) -> bool:
        self.events += [(self.now_s, message) for message in messages]
        return True

    def take(self, *, wait: bool, at_most_s: float | None = None) -> list[Command]:  # noqa: ARG002 - a link's signature
        """All that was given; an engine that would wait for more is told to stop."""
        commands, self._commands = self._commands, []
        return commands or ([Stop()] if wait else [])

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def submit(name: str, prompt: tuple[int, ...], max_tokens: int = 20, mode: Mode = Mode.SERVE, **more: object) -> Submit:
    sampling = SamplingParams(max_tokens=max_tokens, **more)  # type: ignore[arg-type]
    return Submit(Request(RequestId(name), prompt, sampling), mode)
