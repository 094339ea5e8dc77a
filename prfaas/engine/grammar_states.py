"""Where each running request stands in its grammar, and what may come next. Knows no logits and no torch."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from prfaas.core.errors import EngineError
from prfaas.core.ids import RequestId
from prfaas.core.request import Grammar
from prfaas.engine.grammar import GrammarCompiler, reason


@dataclass(slots=True)
class _State:
    matcher: LLMatcher
    consumed: int = 0


class GrammarStates:
    """A state follows from the output tokens alone, so it is made again wherever a request turns up with some."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self.compiler = compiler
        self._thread = ThreadPoolExecutor(1, "grammar")
        self._preparing: dict[RequestId, Future[LLMatcher]] = {}
        self._states: dict[RequestId, _State] = {}

    def __len__(self) -> int:
        """Requests that something is kept for."""
        return len(self._states.keys() | self._preparing.keys())

    def prepare(self, request_id: RequestId, grammar: Grammar) -> None:
        """Begins to compile beside the caller; what goes wrong is raised by `allowed`."""
        if request_id not in self._states and request_id not in self._preparing:
            self._preparing[request_id] = self._thread.submit(self.compiler.compile, grammar)

    def allowed(
        self, request_id: RequestId, grammar: Grammar, output_token_ids: Sequence[int], vocab_size: int
    ) -> NDArray[np.bool_]:
        """[V], true for tokens that may come after the output; EOS is among them only where the grammar accepts.

        Raises RequestError and ModelError as `compile` does, and EngineError when nothing can follow, or when the
        grammar became too complex.
        """
        state = self._states.get(request_id)
        if state is None or state.consumed > len(output_token_ids):
            prepared = self._preparing.pop(request_id, None)
            matcher = prepared.result() if prepared else self.compiler.compile(grammar)
            state = self._states[request_id] = _State(matcher)
        new = output_token_ids[state.consumed :]
        if new and not state.matcher.consume_tokens(list(new)):
            self.compiler.drop(grammar)
            raise EngineError(f"the output does not follow its {grammar.kind}: {reason(state.matcher)}")
        state.consumed = len(output_token_ids)
        mask = self.compiler.allowed(state.matcher, vocab_size)
        if not mask.any():
            self.compiler.drop(grammar)
            raise EngineError(f"no token can follow in the {grammar.kind}: {reason(state.matcher)}")
        return mask

    def forget(self, request_id: RequestId) -> None:
        """Frees what a request holds; unknown ids are ignored."""
        self._states.pop(request_id, None)
        if prepared := self._preparing.pop(request_id, None):
            prepared.cancel()
