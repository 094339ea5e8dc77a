"""Draws the next token of each sequence by its own rules. Knows no models and no caches."""

from collections.abc import Sequence as Rows
from pathlib import Path

import torch
from torch import Tensor

from prfaas.core.errors import PrfaasError, RequestError
from prfaas.core.ids import RequestId
from prfaas.engine.drawn import Drawn
from prfaas.engine.grammar import GrammarCompiler
from prfaas.engine.grammar_states import GrammarStates
from prfaas.engine.logprobs import Asked, report
from prfaas.engine.sampler import Draw, sample
from prfaas.engine.token_counts import TokenCounts
from prfaas.scheduler.sequence import Sequence


class Drawer:
    """Keeps what penalties and grammars need from one step to the next, until `forget`."""

    def __init__(self, grammars: GrammarStates, eos_token_ids: frozenset[int]) -> None:
        self._grammars = grammars
        self._eos_token_ids = eos_token_ids
        self._counts: dict[RequestId, TokenCounts] = {}

    def prepare(self, sequence: Sequence) -> None:
        """Compiles a grammar while the model computes; more than once does no harm."""
        if grammar := sequence.request.sampling.grammar:
            self._grammars.prepare(sequence.request_id, grammar)

    def draw(self, logits: Tensor, sequences: Rows[Sequence]) -> Drawn:
        """`logits` [S, V] fp32, one row per sequence. A fault of one sequence leaves the others alone."""
        drawn = Drawn()
        rows, draws = [], []
        for row, sequence in enumerate(sequences):
            try:
                draws.append(self._draw(sequence, logits))
                rows.append(row)
            except PrfaasError as error:
                drawn.faults[sequence.request_id] = error
        tokens = sample(logits if len(rows) == len(sequences) else logits[rows], draws)
        asked: dict[RequestId, Asked] = {}
        for row, token in zip(rows, tokens, strict=True):
            request = sequences[row].request
            if token is None:
                drawn.not_finite.add(request.request_id)
                continue
            drawn.tokens[request.request_id] = token
            if request.sampling.logprobs is not None:
                asked[request.request_id] = Asked(row, token, request.sampling.logprobs)
        if asked:
            drawn.logprobs = dict(zip(asked, report(logits, list(asked.values())), strict=True))
        return drawn

    def forget(self, request_id: RequestId) -> None:
        """Frees what is kept for a request; unknown ids are ignored."""
        self._grammars.forget(request_id)
        self._counts.pop(request_id, None)

    def _draw(self, sequence: Sequence, logits: Tensor) -> Draw:
        sampling, output = sequence.request.sampling, sequence.output_token_ids
        position = sampling.answered_tokens + len(output)
        vocab_size = logits.shape[-1]
        if sampling.logit_bias and (largest := sampling.logit_bias[-1][0]) >= vocab_size:
            raise RequestError(f"logit_bias: token id {largest} is not in the model's vocabulary of {vocab_size}")
        if not sampling.special:
            return Draw(sampling, position)
        return Draw(
            sampling,
            position,
            self._count(sequence, logits.device) if sampling.penalises else None,
            self._banned(sequence, vocab_size) if len(output) < sampling.min_tokens else (),
            self._allowed(sequence, logits),
        )

    def _count(self, sequence: Sequence, device: torch.device) -> TokenCounts:
        counts = self._counts.get(sequence.request_id)
        if counts is None:
            request = sequence.request
            prompt = request.prompt_token_ids[: request.prompt_tokens - request.sampling.answered_tokens]
            counts = self._counts[sequence.request_id] = TokenCounts(prompt, device)
        counts.update(_answer(sequence))
        return counts

    def _banned(self, sequence: Sequence, vocab_size: int) -> tuple[int, ...]:
        """What would end the answer. Raises RequestError where nothing else is left."""
        sampling = sequence.request.sampling
        ends = sampling.stop_token_ids | (frozenset() if sampling.ignore_eos else self._eos_token_ids)
        banned = tuple(token_id for token_id in ends if token_id < vocab_size)
        if len(banned) == vocab_size:
            raise RequestError("min_tokens: every token of the vocabulary would end the answer")
        return banned

    def _allowed(self, sequence: Sequence, logits: Tensor) -> Tensor | None:
        grammar = sequence.request.sampling.grammar
        if grammar is None:
            return None
        mask = self._grammars.allowed(sequence.request_id, grammar, _answer(sequence), logits.shape[-1])
        return torch.from_numpy(mask).to(logits.device)


def _answer(sequence: Sequence) -> Rows[int]:
    """All of it so far, whoever drew it."""
    if not sequence.request.sampling.answered_tokens:
        return sequence.output_token_ids
    return (*sequence.request.answered_token_ids, *sequence.output_token_ids)


def build_drawer(model_path: Path, eos_token_ids: Rows[int]) -> Drawer:
    """For the model in a directory, whose tokenizer is read when a grammar first needs it."""
    compiler = GrammarCompiler(model_path / "tokenizer.json", eos_token_ids)
    return Drawer(GrammarStates(compiler), frozenset(eos_token_ids))
