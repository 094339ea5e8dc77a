"""Runs steps by waiting: it fills and checks pages, reports layers, and draws tokens that follow from the prompt.

What others wrote, a sender of KV or an earlier request, is checked when a request first goes on from it: a wrong byte
fails the request.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from prfaas.core.errors import EngineError, PrfaasError, RequestError
from prfaas.core.ids import RequestId
from prfaas.core.shape import ModelShape
from prfaas.engine.drawn import Drawn
from prfaas.engine.emulated.chain import NOTHING, Numbers, following, mixed, numbers
from prfaas.engine.emulated.pages import EmulatedPages, Places
from prfaas.engine.emulated.timetable import Timetable
from prfaas.engine.runner import LayerComputed
from prfaas.policy.profile import Profile
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.step_time import step_s

log = logging.getLogger(__name__)

NOTABLE_S = 0.1
"""Who is so late is not what the profile says."""


class EmulatedRunner:
    """A `Runner`; `profile` is in its own seconds and bytes."""

    def __init__(
        self,
        profile: Profile,
        shape: ModelShape,
        pages: EmulatedPages,
        timetable: Timetable,
        *,
        vocab_size: int,
        eos_token_ids: Collection[int],
    ) -> None:
        """No token of `eos_token_ids` is ever drawn: answers are as long as they may be."""
        self._profile = profile
        self._shape = shape
        self._pages = pages
        self._timetable = timetable
        self._vocabulary = np.setdiff1d(np.arange(vocab_size), np.array(sorted(eos_token_ids), dtype=np.int64))
        self._reached: dict[RequestId, tuple[int, int]] = {}
        """Tokens computed of a request, and the number of that prefix."""
        self._was_late = False
        self.forward_seconds = 0.0
        self.late_s: float | None = 0.0

    def run(self, plan: StepPlan, on_layer: LayerComputed) -> Drawn:
        """Returns when the step is over."""
        self.forward_seconds = step_s(self._profile, plan)
        self._timetable.begin(self.forward_seconds)
        drawn = Drawn()
        parts = [self._part(chunk, drawn) for chunk in plan.chunks]
        self._fill(parts, on_layer)
        self._draw([part for part in parts if part.chunk.samples], drawn)
        self._note_late(self._timetable.late_s)
        return drawn

    def rest(self) -> None:
        self._timetable.rest()

    def forget(self, request_id: RequestId) -> None:
        self._reached.pop(request_id, None)

    def _part(self, chunk: Chunk, drawn: Drawn) -> "_Part":
        sequence = chunk.sequence
        tokens, before = self._reached.get(sequence.request_id, (0, NOTHING))
        if tokens != chunk.start:
            before = self._taken_up(chunk, drawn)
        token_ids = sequence.tokens(chunk.start, chunk.end)
        part = _Part(
            chunk,
            np.array([following(before, *token_ids)], dtype=np.uint64)
            if len(token_ids) == 1
            else numbers(before, token_ids),
            self._pages.places(chunk.start, chunk.end, sequence.pages),
        )
        self._reached[sequence.request_id] = chunk.end, part.number
        return part

    def _taken_up(self, chunk: Chunk, drawn: Drawn) -> int:
        """The number of a prefix that this request did not compute; whether it is there is checked."""
        if chunk.start == 0:
            return NOTHING
        sequence = chunk.sequence
        prefix = numbers(NOTHING, sequence.tokens(0, chunk.start))
        if fault := self._pages.fault(prefix, sequence.pages, chunk.state_from):
            drawn.faults[sequence.request_id] = EngineError(f"what the request goes on from is not its own: {fault}")
        return int(prefix[-1])

    def _fill(self, parts: "list[_Part]", on_layer: LayerComputed) -> None:
        """Writes layer after layer, each in its share of the step."""
        everything = np.concatenate([part.numbers for part in parts])
        pages, slots = (np.concatenate([part.places[i] for part in parts]) for i in range(2))
        for layer, cache in enumerate(self._shape.layers):
            if cache.paged:
                self._pages.write_tokens(layer, (pages, slots), everything)
            else:
                for part in parts:
                    part.write_states(self._pages)
            self._timetable.wait((layer + 1) / len(self._shape.layers))
            on_layer(layer)

    def _draw(self, parts: "list[_Part]", drawn: Drawn) -> None:
        choices = mixed(np.array([part.number for part in parts], dtype=np.uint64)) % np.uint64(len(self._vocabulary))
        for part, token_id in zip(parts, self._vocabulary[choices].tolist(), strict=True):
            request_id = part.chunk.sequence.request_id
            if request_id in drawn.faults:
                continue
            if fault := _beyond_us(part.chunk):
                drawn.faults[request_id] = fault
            else:
                drawn.tokens[request_id] = token_id

    def _note_late(self, late_s: float) -> None:
        self.late_s = late_s
        was_late, self._was_late = self._was_late, late_s > NOTABLE_S
        if self._was_late and not was_late:
            log.warning("a step ended %.0f ms late: this machine is too busy for the time scale", late_s * 1e3)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a step computes of one chunk."""

    chunk: Chunk
    numbers: Numbers
    """After each of its tokens."""
    places: Places

    @property
    def number(self) -> int:
        return int(self.numbers[-1])

    def write_states(self, pages: EmulatedPages) -> None:
        chunk = self.chunk
        if chunk.num_tokens == 1 and chunk.start > 0:
            pages.advance_states(self.number, chunk.state_from, chunk.state_to)
        else:
            pages.write_states(self.number, chunk.state_to)


def _beyond_us(chunk: Chunk) -> PrfaasError | None:
    sampling = chunk.sequence.request.sampling
    if sampling.grammar is not None:
        return RequestError("an emulated engine follows no grammar; leave response_format out")
    if sampling.logprobs is not None:
        return RequestError("an emulated engine has no logprobs; leave them out")
    return None
