"""Between protobuf messages and the core's types."""

import asyncio

import grpc

from prfaas.config.sections import Role
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import (
    BY_CODE,
    CancelledError,
    DeadlineError,
    PeerLostError,
    PrfaasError,
    RequestError,
    UnavailableError,
    from_code,
)
from prfaas.core.ids import RequestId
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import Grammar, GrammarKind, Request, SamplingParams

_STATUS: dict[grpc.StatusCode, type[PrfaasError]] = {
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: PeerLostError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
}

ROLE_TO_PB: dict[Role, pb.Role] = {"prefill": pb.ROLE_PREFILL, "decode": pb.ROLE_DECODE}
ROLE_FROM_PB: dict[int, Role] = {pb.ROLE_PREFILL: "prefill", pb.ROLE_DECODE: "decode"}


def sampling_to_pb(sampling: SamplingParams) -> pb.Sampling:
    grammar = sampling.grammar
    return pb.Sampling(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop_token_ids=sorted(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=dict(sampling.logit_bias),
        logprobs=sampling.logprobs,
        min_tokens=sampling.min_tokens,
        answered_tokens=sampling.answered_tokens,
        grammar=pb.Grammar(kind=grammar.kind.value, text=grammar.text) if grammar else None,
    )


def sampling_from_pb(sampling: pb.Sampling) -> SamplingParams:
    """Raises RequestError where the message's numbers are out of range."""
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop_token_ids=frozenset(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=tuple(sorted(sampling.logit_bias.items())),
        logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
        min_tokens=sampling.min_tokens,
        answered_tokens=sampling.answered_tokens,
        grammar=_grammar_from_pb(sampling.grammar) if sampling.HasField("grammar") else None,
    )


def _grammar_from_pb(grammar: pb.Grammar) -> Grammar:
    try:
        kind = GrammarKind(grammar.kind)
    except ValueError:
        raise RequestError(f"grammar: this instance does not know the kind {grammar.kind!r}") from None
    return Grammar(kind, grammar.text)


def request_from_pb(message: pb.GenerateRequest | pb.PrefillRequest) -> Request:
    """Raises RequestError where the message's numbers are out of range."""
    params = sampling_from_pb(message.sampling)
    return Request(RequestId(message.request_id), tuple(message.prompt_token_ids), params, message.cache_salt)


def tokens_to_pb(token_id: int, logprobs: TokenLogprobs | None) -> pb.Tokens:
    """One token of a request that asks for logprobs, or not."""
    if logprobs is None:
        return pb.Tokens(token_ids=[token_id])
    report = pb.TokenLogprobs(
        logprob=logprobs.logprob,
        top_ids=[top_id for top_id, _ in logprobs.top],
        top_logprobs=[value for _, value in logprobs.top],
    )
    return pb.Tokens(token_ids=[token_id], logprobs=[report])


def logprobs_from_pb(tokens: pb.Tokens) -> tuple[TokenLogprobs, ...]:
    """One for each token, or none at all. Raises PrfaasError for a message in which they do not match."""
    reports = tuple(
        TokenLogprobs(report.logprob, tuple(zip(report.top_ids, report.top_logprobs, strict=False)))
        for report in tokens.logprobs
    )
    ragged = any(len(report.top_ids) != len(report.top_logprobs) for report in tokens.logprobs)
    if ragged or len(reports) not in (0, len(tokens.token_ids)):
        raise PrfaasError(f"{len(tokens.token_ids)} tokens came with {len(reports)} logprobs that do not match them")
    return reports


def failure_to_pb(error: PrfaasError) -> pb.Failure:
    return pb.Failure(code=error.code, message=str(error), retryable=error.retryable)


def failure_from_pb(failure: pb.Failure) -> PrfaasError:
    return from_code(failure.code, failure.message)


def from_rpc_error(error: grpc.aio.AioRpcError | asyncio.CancelledError, peer: str) -> PrfaasError:
    """A failed call as a typed error that names the peer."""
    if isinstance(error, asyncio.CancelledError):
        return CancelledError(f"the call to {peer} was cancelled")
    kind = _STATUS.get(error.code(), BY_CODE["internal"])
    return kind(f"{peer}: {error.details() or error.code().name}")
