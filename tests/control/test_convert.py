"""Between protobuf and core types, both ways."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.control.convert import (
    failure_from_pb,
    failure_to_pb,
    from_rpc_error,
    logprobs_from_pb,
    request_from_pb,
    sampling_from_pb,
    sampling_to_pb,
    tokens_to_pb,
)
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import BY_CODE, PeerLostError, PrfaasError, RequestError
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import MAX_SEED, Grammar, GrammarKind, SamplingParams

TOKEN_IDS = st.integers(0, 2**32 - 1)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "seed": st.integers(0, MAX_SEED),
        "stop_token_ids": st.frozensets(TOKEN_IDS, max_size=5),
        "top_k": st.integers(-1, 2**31 - 1),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.01, 100),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "logit_bias": st.dictionaries(TOKEN_IDS, st.floats(-100, 100), max_size=5).map(
            lambda bias: tuple(sorted(bias.items()))
        ),
        "logprobs": st.integers(0, 20) | st.none(),
        "answered_tokens": st.integers(0, 3),
    },
)
ENDS = st.fixed_dictionaries({"ignore_eos": st.booleans(), "min_tokens": st.integers(0, 5)}) | st.fixed_dictionaries(
    {"grammar": st.builds(Grammar, st.sampled_from(GrammarKind), st.text(max_size=20))}
)
SAMPLING = st.builds(
    lambda max_tokens, options, ends: SamplingParams(max_tokens=max_tokens, **options, **ends),
    st.integers(5, 2**31),
    OPTIONS,
    ENDS,
)
LOGPROB = st.floats(max_value=0, allow_nan=False, width=32)


@given(SAMPLING, st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=20))
def test_requests_survive_the_wire(sampling: SamplingParams, tokens: list[int]) -> None:
    message = pb.GenerateRequest(request_id="r", prompt_token_ids=tokens, sampling=sampling_to_pb(sampling))
    request = request_from_pb(pb.GenerateRequest.FromString(message.SerializeToString()))
    assert (request.request_id, request.prompt_token_ids, request.sampling) == ("r", tuple(tokens), sampling)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_failures_survive_the_wire(code: str) -> None:
    error = BY_CODE[code]("why")
    back = failure_from_pb(failure_to_pb(error))
    assert (type(back), str(back)) == (type(error), "why")


def test_numbers_out_of_range_are_request_errors() -> None:
    with pytest.raises(RequestError, match="max_tokens"):
        request_from_pb(pb.PrefillRequest(request_id="r", prompt_token_ids=[1]))


def test_what_a_caller_leaves_out_changes_nothing() -> None:
    bare = pb.Sampling(max_tokens=4, temperature=1, top_p=1)
    assert sampling_from_pb(bare) == SamplingParams(max_tokens=4)


def test_every_field_of_sampling_is_carried() -> None:
    assert {field.name for field in pb.Sampling.DESCRIPTOR.fields} == set(SamplingParams.__dataclass_fields__)


def test_a_grammar_of_a_later_version_is_refused_by_name() -> None:
    message = pb.Sampling(max_tokens=4, temperature=1, top_p=1, grammar=pb.Grammar(kind="lark", text="x"))
    with pytest.raises(RequestError, match="lark"):
        sampling_from_pb(message)


@given(TOKEN_IDS, st.none() | st.builds(TokenLogprobs, LOGPROB, st.lists(st.tuples(TOKEN_IDS, LOGPROB)).map(tuple)))
def test_tokens_survive_the_wire(token_id: int, logprobs: TokenLogprobs | None) -> None:
    tokens = pb.Tokens.FromString(tokens_to_pb(token_id, logprobs).SerializeToString())
    assert list(tokens.token_ids) == [token_id]
    assert logprobs_from_pb(tokens) == (() if logprobs is None else (logprobs,))


@pytest.mark.parametrize(
    "tokens",
    [
        pb.Tokens(token_ids=[1, 2], logprobs=[pb.TokenLogprobs(logprob=-1)]),
        pb.Tokens(token_ids=[1], logprobs=[pb.TokenLogprobs(logprob=-1, top_ids=[1, 2], top_logprobs=[-1])]),
    ],
)
def test_logprobs_that_do_not_match_their_tokens(tokens: pb.Tokens) -> None:
    with pytest.raises(PrfaasError, match="do not match"):
        logprobs_from_pb(tokens)


async def test_an_unreachable_peer_is_named() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await InstanceStub(channel).Drain(pb.DrainRequest())
    error = from_rpc_error(caught.value, "east-prefill-0")
    assert isinstance(error, PeerLostError)
    assert str(error).startswith("east-prefill-0: ")
