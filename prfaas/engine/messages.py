"""What goes into the engine and what comes out; the engine and its front share nothing else."""

from typing import Protocol

import msgspec

from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request
from prfaas.scheduler.sequence import Mode


class KvSink(Protocol):
    """Where an exported prefill goes. Called on the engine's thread as memory becomes final; must not block."""

    def reserved(self, pages: tuple[int, ...], slot: int) -> None:
        """The request's memory, before anything is computed."""
        ...

    def layer_done(self, layer: int, start: int, end: int) -> None:
        """The cache of `layer` holds tokens [start, end) for good; state layers are reported once, for the whole."""
        ...

    def finished(self, first_token_id: int, queue_s: float, prefill_s: float) -> None:
        """Every layer has been reported, and the first token drawn."""
        ...


class Submit(msgspec.Struct, frozen=True):
    """Front → engine: a new request. `sink` is given if and only if the mode is EXPORT."""

    request: Request
    mode: Mode
    sink: KvSink | None = None


class BeginDecode(msgspec.Struct, frozen=True):
    """Front → engine: the KV of an imported request has been committed."""

    request_id: RequestId
    first_token_id: int


class PrefillHere(msgspec.Struct, frozen=True):
    """Front → engine: the KV of an imported request will not come; compute it."""

    request_id: RequestId


class Release(msgspec.Struct, frozen=True):
    """Front → engine: forget a request (finished export, or cancelled); unknown ids are ignored."""

    request_id: RequestId


Command = Submit | BeginDecode | PrefillHere | Release


class Admitted(msgspec.Struct, frozen=True):
    """Engine → front: the request holds its memory."""

    request_id: RequestId
    pages: tuple[int, ...]
    slot: int
    queue_s: float


class Progressed(msgspec.Struct, frozen=True):
    """Engine → front: so many prompt tokens have been computed."""

    request_id: RequestId
    tokens_done: int


class Prefilled(msgspec.Struct, frozen=True):
    """Engine → front: the whole prompt was computed here. Queue: admission to first chunk; prefill: to first token."""

    request_id: RequestId
    queue_s: float
    prefill_s: float


class Generated(msgspec.Struct, frozen=True):
    """Engine → front: one more token; with `finish` it is the last, and the memory is free again."""

    request_id: RequestId
    token_id: int
    finish: FinishReason | None


class Failed(msgspec.Struct, frozen=True):
    """Engine → front: the request ended without its tokens; its memory is free. `code` is of `prfaas.core.errors`."""

    request_id: RequestId
    code: str
    message: str


Event = Admitted | Progressed | Prefilled | Generated | Failed


class Stats(msgspec.Struct, frozen=True):
    """A reading of the engine's queues and pools, taken between steps."""

    waiting_requests: int = 0
    running_requests: int = 0
    waiting_tokens: int = 0
    pages_used: int = 0
    pages_total: int = 0
    slots_used: int = 0
    slots_total: int = 0
