"""The rest of a request whose answer has begun, for an instance that has seen nothing of it."""

from collections.abc import Sequence
from dataclasses import replace

from prfaas.core.request import Request


def continued(request: Request, token_ids: Sequence[int]) -> Request:
    """`request` from the tokens on that came already: they end the prompt, and are marked as the answer's.

    A draw depends on the seed, the position and the tokens before it, so what comes is what would have come. Fewer
    tokens must have come than `max_tokens`.
    """
    if not token_ids:
        return request
    came, sampling = len(token_ids), request.sampling
    rest = replace(
        sampling,
        max_tokens=sampling.max_tokens - came,
        min_tokens=max(0, sampling.min_tokens - came),
        answered_tokens=sampling.answered_tokens + came,
    )
    return replace(request, prompt_token_ids=(*request.prompt_token_ids, *token_ids), sampling=rest)
