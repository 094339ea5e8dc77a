"""Between protobuf messages and the core's types."""

import asyncio

import grpc

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import (
    BY_CODE,
    CancelledError,
    DeadlineError,
    PeerLostError,
    PrfaasError,
    UnavailableError,
    from_code,
)
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams

_STATUS: dict[grpc.StatusCode, type[PrfaasError]] = {
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: PeerLostError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
}


def sampling_to_pb(sampling: SamplingParams) -> pb.Sampling:
    return pb.Sampling(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop_token_ids=sorted(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
    )


def request_from_pb(message: pb.GenerateRequest | pb.PrefillRequest) -> Request:
    """Raises RequestError where the message's numbers are out of range."""
    sampling = message.sampling
    params = SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop_token_ids=frozenset(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
    )
    return Request(RequestId(message.request_id), tuple(message.prompt_token_ids), params)


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
