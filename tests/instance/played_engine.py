"""An engine that computes nothing: it takes commands, fills memory with bytes made from the prompt, and reports."""

import asyncio
import hashlib
import threading
from dataclasses import dataclass, field

from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request
from prfaas.core.shape import ModelShape
from prfaas.engine.link import EngineLink, connect
from prfaas.engine.messages import (
    Admitted,
    Announce,
    BeginDecode,
    Event,
    Failed,
    Generated,
    KeepPrefix,
    LayerDone,
    Lend,
    Lent,
    Prefilled,
    PrefillHere,
    Progressed,
    Ready,
    Release,
    Reserve,
    Stop,
    Submit,
)
from prfaas.scheduler.sequence import Mode
from tests.instance.paged_memory import PagedMemory

STEP_TOKENS = 5
STATE_PAGES = 2


def row_content(request: Request, layer: int, tensor: int, row: int, num_bytes: int, *, paged: bool) -> bytes:
    """Of a paged layer it depends on the tokens up to the row's, of a state on the whole prompt."""
    tokens = request.prompt_token_ids[: row + 1] if paged else request.prompt_token_ids
    return hashlib.shake_128(repr((tokens, layer, tensor, row)).encode()).digest(num_bytes)


def first_token(request: Request) -> int:
    return sum(request.prompt_token_ids) % 100


@dataclass
class Plan:
    """What the engine finds cached of each prompt that comes; the test changes it."""

    cached_tokens: int = 0
    held_tokens: int = 0
    reused_after_failure: int = 0
    """Of a prompt whose transfer failed: its pages may have gone to others meanwhile."""
    sends_states: bool = True
    computes_from: int | None = None
    """Where an export begins to compute, if not behind what is cached."""
    fails: bool = False
    """An export fails when all but its last chunk has been reported."""
    before_last_chunk: threading.Event | None = None
    """An export waits for it when all but its last chunk has been reported."""
    before_second_token: threading.Event | None = None
    """Where there is one, an import has a second token, which waits for it."""
    lends: bool = True
    """Any prefix that is asked for is cached."""
    before_lending: threading.Event | None = None
    """A prefix is said to be cached only then."""
    room: bool = True
    """For prefixes that come."""


@dataclass
class Seen:
    """What the engine was told, and found when it was told."""

    requests: list[Request] = field(default_factory=list)
    admitted: dict[RequestId, Admitted] = field(default_factory=dict)
    whole: list[bool] = field(default_factory=list)
    """Of each imported request: did every row lie in its place when decode began?"""
    verified: list[int] = field(default_factory=list)
    """Of each import that failed: how many tokens were said to have come."""
    right: list[bool] = field(default_factory=list)
    """Of each of these: did they lie in their place?"""
    released: list[RequestId] = field(default_factory=list)
    announced: list[Announce] = field(default_factory=list)
    kept: list[KeepPrefix] = field(default_factory=list)
    """Prefixes that came; of each is said in `whole` whether every row lay in its place."""


class PlayedEngine:
    """An `EngineHost` whose engine is a thread that plays `plan`."""

    def __init__(self, fd: int, shape: ModelShape, memory: PagedMemory, page_tokens: int) -> None:
        self._shape = shape
        self._memory = memory
        self._page_tokens = page_tokens
        self._next_page = 0
        self._link: EngineLink = connect(fd)
        self.plan = Plan()
        self.seen = Seen()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def ended(self) -> str:
        await self._ended.wait()
        return "the engine ended"

    async def stop(self, within_s: float) -> None:  # noqa: ARG002
        await self._ended.wait()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        requests: dict[RequestId, Request] = {}
        stopped = False
        self._say(Ready("f" * 32, 1000, compiled_kernels=False))
        while not stopped:
            for command in self._link.take(wait=True):
                match command:
                    case Submit(request, mode):
                        requests[request.request_id] = request
                        self._submit(request, mode)
                    case BeginDecode(request_id, token):
                        self.seen.whole.append(self._whole(requests[request_id]))
                        self._decode(request_id, token)
                    case PrefillHere(request_id, verified):
                        self._go_on(requests[request_id], verified)
                    case Release(request_id):
                        self.seen.released.append(request_id)
                    case Announce():
                        self.seen.announced.append(command)
                    case Lend() | Reserve() | KeepPrefix():
                        self._move(command, requests)
                    case Stop():
                        stopped = True
        self._link.close()
        self._loop.call_soon_threadsafe(self._ended.set)

    def take_back(self, request_id: RequestId) -> None:
        """Others need the memory of a prefix that comes. For the test's thread, while nothing else is said."""
        self._say(Failed(request_id, "no_room", "others need it"))

    def _decode(self, request_id: RequestId, token: int) -> None:
        if self.plan.before_second_token is not None:
            self._say(Generated(request_id, token, None))
            self.plan.before_second_token.wait(20)
        self._say(Generated(request_id, token, FinishReason.LENGTH))

    def _move(self, command: Lend | Reserve | KeepPrefix, requests: dict[RequestId, Request]) -> None:
        if isinstance(command, KeepPrefix):
            self.seen.whole.append(self._whole(requests[command.request_id]))
            self.seen.kept.append(command)
            return
        requests[command.request.request_id] = command.request
        if isinstance(command, Lend):
            self._lend(command.request)
        else:
            self._reserve(command.request)

    def _lend(self, request: Request) -> None:
        if self.plan.before_lending is not None:
            self.plan.before_lending.wait(20)
        if not self.plan.lends:
            self._say(Failed(request.request_id, "prefix_gone", "it was told to"))
            return
        self._admit(request, request.prompt_tokens, request.prompt_tokens)
        for layer in set(range(len(self._shape.layers))) - set(self._shape.paged_layers):
            self._fill(request, layer, 0, request.prompt_tokens)
        self._say(self.seen.admitted[request.request_id])
        self._say(Lent(request.request_id))

    def _reserve(self, request: Request) -> None:
        if not self.plan.room:
            self._say(Failed(request.request_id, "no_room", "it was told to"))
            return
        held = self.plan.held_tokens
        self._admit(request, held if held == request.prompt_tokens else 0, held)
        self._say(self.seen.admitted[request.request_id])

    def _submit(self, request: Request, mode: Mode) -> None:
        self.seen.requests.append(request)
        cached = self.plan.cached_tokens
        held = self.plan.held_tokens if mode is Mode.IMPORT else cached
        self._admit(request, cached, held)
        self._say(self.seen.admitted[request.request_id])
        if mode is Mode.EXPORT:
            self._export(request, cached)
        elif mode is Mode.SERVE:
            self._serve(request, cached)

    def _admit(self, request: Request, cached: int, held: int) -> None:
        pages = self._pages(-(-request.prompt_tokens // self._page_tokens))
        admitted = Admitted(request.request_id, pages, self._pages(STATE_PAGES), 0.0, cached, held)
        self.seen.admitted[request.request_id] = admitted
        for layer in self._shape.paged_layers:
            self._fill(request, layer, 0, held)

    def _export(self, request: Request, cached: int) -> None:
        end = request.prompt_tokens
        begin = cached if self.plan.computes_from is None else self.plan.computes_from
        for start in range(begin, end, STEP_TOKENS):
            stop = min(start + STEP_TOKENS, end)
            if stop == end and self.plan.before_last_chunk is not None:
                self.plan.before_last_chunk.wait(20)
            if stop == end and self.plan.fails:
                self._say(Failed(request.request_id, "engine_failed", "it was told to", "step"))
                return
            for layer, cache in enumerate(self._shape.layers):
                if cache.paged or (stop == end and self.plan.sends_states):
                    first = start if cache.paged else 0
                    self._fill(request, layer, first, stop)
                    self._say(LayerDone(request.request_id, layer, first, stop))
            self._say(Progressed(request.request_id, stop))
        self._say(Prefilled(request.request_id, first_token(request), cached, 0.25, 0.5))

    def _serve(self, request: Request, reused: int) -> None:
        self._say(Prefilled(request.request_id, first_token(request), reused, 0.25, 0.5))
        self._say(Generated(request.request_id, first_token(request), FinishReason.LENGTH))

    def _go_on(self, request: Request, verified: int) -> None:
        self.seen.verified.append(verified)
        rows = [row for i in self._shape.paged_layers for row in self._rows(request, i, 0, verified)]
        self.seen.right.append(all(span == content for span, content in rows))
        self._serve(request, self.plan.reused_after_failure)

    def _fill(self, request: Request, layer: int, start: int, end: int) -> None:
        for span, content in self._rows(request, layer, start, end):
            span[:] = content

    def _whole(self, request: Request) -> bool:
        layers = range(len(self._shape.layers))
        return all(s == c for i in layers for s, c in self._rows(request, i, 0, request.prompt_tokens))

    def _rows(self, request: Request, layer: int, start: int, end: int) -> list[tuple[memoryview, bytes]]:
        """Memory and right content of tokens [start, end) of a paged layer, or of the whole state of another."""
        cache, held = self._shape.layers[layer], self.seen.admitted[request.request_id]
        found = []
        for tensor in range(len(cache.tensors)):
            rows = range(start, end) if cache.paged else range(cache.num_rows(tensor, end))
            for row in rows:
                (span,) = self._memory.spans(layer, tensor, row, row + 1, held.pages, held.state_pages)
                content = row_content(request, layer, tensor, row, span.nbytes, paged=cache.paged)
                found.append((span, content))
        return found

    def _pages(self, count: int) -> tuple[int, ...]:
        """Pages that nobody had before, in an order that is not theirs in memory."""
        self._next_page += count
        return tuple(range(self._next_page - 1, self._next_page - count - 1, -1))

    def _say(self, event: Event) -> None:
        self._link.send([event])
