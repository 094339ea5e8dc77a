"""What a model answers when nothing is cached, and whether another answer is the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.models.loader import LoadedModel
from tests.models.rig import logit_error
from tests.models.small_instance import SmallInstance

CLOSE = 1e-4
"""Of logits, relative to the largest; a cut reorders sums."""
Prompt = tuple[int, ...]


def asking(name: str, prompt: Prompt, max_tokens: int = 4, salt: str = "") -> Request:
    """A greedy request that ends with its last token."""
    return Request(RequestId(name), prompt, SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True), salt)


@dataclass(frozen=True)
class Answer:
    """Tokens, and the logits [V] that each was drawn from."""

    tokens: list[int]
    logits: dict[int, Tensor]


@dataclass
class Uncached:
    """One model's answers, each worked out once, its prompt in one piece."""

    model: LoadedModel
    known: dict[Prompt, Answer] = field(default_factory=dict)

    def learn(self, requests: Sequence[Request]) -> None:
        """Works out what is not known yet of the answers to these requests."""
        lengths: dict[Prompt, int] = {}
        for request in requests:
            prompt, found = request.prompt_token_ids, self.known.get(request.prompt_token_ids)
            if found is None or len(found.tokens) < request.sampling.max_tokens:
                lengths[prompt] = max(lengths.get(prompt, 0), request.sampling.max_tokens)
        if not lengths:
            return
        pages = sum(-(-(len(prompt) + length) // 16) for prompt, length in lengths.items())
        instance = SmallInstance(self.model, pages, slots=len(lengths), page_tokens=16, step_tokens=1000)
        asked = [asking(f"{i}", prompt, length) for i, (prompt, length) in enumerate(lengths.items())]
        for request in asked:
            instance.add(request)
        instance.run()
        for request in asked:
            name = request.request_id
            self.known[request.prompt_token_ids] = Answer(instance.answers[name], instance.logits[name])

    def check(self, instance: SmallInstance, request: Request) -> None:
        """An instance's answer to a request is the one that it has without a cache.

        Where two tokens are as good as equal either may be drawn, and what follows is another answer.
        """
        drawn, max_tokens = instance.answers[request.request_id], request.sampling.max_tokens
        self.learn([request])
        expected = self.known[request.prompt_token_ids]
        assert len(drawn) == max_tokens
        for at, (token, other) in enumerate(zip(drawn, expected.tokens, strict=False)):
            logits = instance.logits[request.request_id].get(at)
            if logits is not None:
                assert logit_error(logits, expected.logits[at]) < CLOSE, f"{request.request_id}: token {at}"
            if token != other:
                assert _as_good(expected.logits[at]), f"{request.request_id}: token {at} is {token}, not {other}"
                return


def _as_good(logits: Tensor) -> bool:
    first, second = torch.topk(logits, 2).values
    return bool(first - second < CLOSE * logits.abs().max())
