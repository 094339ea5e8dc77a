"""A step loop with its disk tier and a client that asks for much at once. Knows what every answer must be."""

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.layout import lay_out
from prfaas.cache.pool import PagePool
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.cache.snapshot_policy import SnapshotPolicy
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.disk_moves import DiskMoves
from prfaas.engine.disk_tier import DiskTier
from prfaas.engine.drawer import build_drawer
from prfaas.engine.engine import Engine
from prfaas.engine.link import EngineLink, connect, listen
from prfaas.engine.messages import (
    Admitted,
    Announce,
    BeginDecode,
    Event,
    Failed,
    Generated,
    Prefilled,
    PrefillHere,
    Ready,
    Release,
    Stats,
    Stop,
    Submit,
)
from prfaas.engine.model_runner import ModelRunner
from prfaas.engine.prefixes import Prefixes
from prfaas.models.batch import CacheTensors
from prfaas.models.row_table import RowTable
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode
from tests.engine.checked_memory import PAGE, PAGE_BYTES, VOCAB, CheckedMemory, answer
from tests.wire.small import SHAPE

MOST_TOKENS = 60
AT_ONCE = 24


@dataclass
class _Asked:
    prompt: tuple[int, ...]
    max_tokens: int
    mode: Mode
    patience: int
    """Events after which the client goes away."""
    drawn: list[int] = field(default_factory=list)
    pages: Admitted | None = None


class Traffic:
    """One engine in a thread, and what became of the requests."""

    def __init__(self, directory: Path, seed: int, *, bad: float = 0.0, raises: float = 0.0) -> None:
        self.random = Random(seed)
        choice = self.random.choice
        slots, state_pages = choice([2, 4, 8]), choice([0, 1, 3])
        self.memory = CheckedMemory(pages := choice([24, 34, 80]), Random(seed + 1), bad=bad, raises=raises)
        self.cache = PrefixCache(PagePool(pages), block_tokens=PAGE, state_pages=state_pages, record_changes=True)
        self.scheduler = Scheduler(
            self.cache,
            SnapshotPolicy(PAGE, every_tokens=16, answer_tokens=8),
            fingerprint="model",
            step_tokens=choice([12, 40]),
            max_running=slots,
            eos_token_ids=frozenset(),
        )
        self.ended: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.broke: list[Exception] = []
        self.stats = Stats()
        self._announced_s = choice([0.02, 0.5])
        self._open: dict[RequestId, _Asked] = {}
        self._asked = 0
        self._beginnings = [self._tokens(MOST_TOKENS) for _ in range(4)]
        self.link = listen()
        self._thread = threading.Thread(target=self._run, args=(directory,), daemon=True)
        self._thread.start()
        assert self.link.take(wait=True) == [Ready("", VOCAB, compiled_kernels=False)]

    def _run(self, directory: Path) -> None:
        link = connect(os.dup(self.link.fd))
        try:
            self._engine(directory, link).run()
        except Exception as error:  # noqa: BLE001 - a thread's edge
            self.broke.append(error)
        link.close()

    def _engine(self, directory: Path, link: EngineLink) -> Engine:
        tier = DiskTier(
            directory,
            limit_bytes=300 * 4096,
            fingerprint="model",
            format_key="test",
            page=self.memory.page,
            wake=link.wake,
        )
        moves = DiskMoves(tier, self.cache, PAGE_BYTES, self.scheduler.waiting_for, time.monotonic)
        self.prefixes = Prefixes(self.cache, moves, time.monotonic, self._announced_s)
        tensors = CacheTensors(PAGE, (), RowTable.of(lay_out(SHAPE, PAGE)))
        runner = ModelRunner(self.memory.forward, tensors, build_drawer(Path(), ()))
        link.send([Ready("", VOCAB, compiled_kernels=False)])
        return Engine(self.scheduler, runner, SHAPE, self.cache, self.prefixes, link, time.monotonic)

    def run(self, num_requests: int) -> None:
        """Asks, and waits for the last end. Fails when nothing ended for long."""
        progress, seen = time.monotonic(), 0
        while self._asked < num_requests or self._open:
            while self._asked < num_requests and len(self._open) < AT_ONCE:
                self._ask()
            self._take()
            if (total := self.ended.total()) != seen:
                progress, seen = time.monotonic(), total
            assert not self.broke, self.broke
            assert time.monotonic() < progress + 20, f"nothing ended: {self.stats}, open are {self._open}"

    def stop(self) -> None:
        """Everything is free, of whatever became of it."""
        while self.stats.running_requests or self.stats.pages_used or not self.ended:
            self._take()
        self.link.send([Stop()])
        self._thread.join(20)
        self.link.close()
        assert not self.broke, self.broke
        self.prefixes.advance()
        self.cache.check()
        self.cache.clear()
        assert (self.cache.pool.used, self.cache.leases, self.scheduler.waiting_tokens) == (0, 0, 0)

    def _tokens(self, length: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(VOCAB) for _ in range(length))

    def _prompt(self) -> tuple[int, ...]:
        """Mostly begins as others do, and half of those go on differently."""
        beginning = self.random.choice(self._beginnings)[: self.random.choice([8, 16, 20, 33, 48])]
        own = self._tokens(self.random.randint(1, MOST_TOKENS - len(beginning)))
        return self.random.choice([beginning, beginning + own, beginning + own, own])

    def _ask(self) -> None:
        prompt, max_tokens, salt = (
            self._prompt(),
            self.random.randint(1, 20),
            self.random.choice(["", "", "", "tenant"]),
        )
        self._asked += 1
        name, request_id = str(self._asked), RequestId(f"{self._asked}#1")
        mode = self.random.choice([Mode.SERVE, Mode.SERVE, Mode.EXPORT, Mode.IMPORT])
        patience = self.random.choice([1000, 1000, 1000, 1000, 1000, self.random.randint(0, 6)])
        self._open[request_id] = _Asked(prompt, max_tokens, mode, patience)
        if self.random.random() < 0.3:
            self.link.send([Announce(name, tuple(block_hashes(root_hash("model", salt), prompt, PAGE)))])
        if self.random.random() < 0.05:
            self.link.send([Announce(f"never {name}", tuple(block_hashes(root_hash("model", salt), prompt, PAGE)))])
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True)
        self.link.send([Submit(Request(request_id, prompt, sampling, salt), mode)])

    def _take(self) -> None:
        for event in self.link.take(wait=True, at_most_s=0.05):
            if isinstance(event, Stats):
                self.stats = event
            elif (asked := self._open.get(getattr(event, "request_id", RequestId("")))) is not None:
                self._hear(event.request_id, asked, event)  # type: ignore[union-attr]  # it has one: it was found by it

    def _hear(self, request_id: RequestId, asked: _Asked, event: Event) -> None:
        asked.patience -= 1
        match event:
            case Failed(code=code):
                self._end(request_id, code)
            case _ if asked.patience < 0:
                self._end(request_id, "cancelled")
            case Admitted() if asked.mode is Mode.IMPORT:
                self._deliver(request_id, asked, event)
            case Admitted():
                asked.pages = event
            case Prefilled(first_token_id=token) if asked.mode is Mode.EXPORT:
                self._check_export(asked, token)
                self._end(request_id, "exported")
            case Generated(token_id=token, finish=finish):
                asked.drawn.append(token)
                if finish is not None:
                    if asked.drawn != answer(asked.prompt, asked.max_tokens):
                        self.wrong.append(f"{asked}")
                    self._end(request_id, "finished")

    def _end(self, request_id: RequestId, how: str) -> None:
        self.link.send([Release(request_id)])
        del self._open[request_id]
        self.ended[how] += 1

    def _deliver(self, request_id: RequestId, asked: _Asked, admitted: Admitted) -> None:
        """As another instance does that has computed the prompt; sometimes it fails."""
        pages, held = list(admitted.pages), admitted.held_tokens
        if self.random.random() < 0.2:
            arrived = self.random.randint(held, len(asked.prompt))
            self.memory.write(pages, held, asked.prompt[held:arrived])
            self.link.send([PrefillHere(request_id, arrived)])
            return
        self.memory.write(pages, held, asked.prompt[held:])
        if admitted.state_pages:
            self.memory.write_state(list(admitted.state_pages), asked.prompt)
        self.link.send([BeginDecode(request_id, answer(asked.prompt, 1)[0])])

    def _check_export(self, asked: _Asked, token: int) -> None:
        assert asked.pages is not None
        found = self.memory.tokens(list(asked.pages.pages), len(asked.prompt))
        if (found, [token]) != (asked.prompt, answer(asked.prompt, 1)):
            self.wrong.append(f"{asked}")
