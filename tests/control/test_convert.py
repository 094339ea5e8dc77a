"""Between protobuf and core types, both ways."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.control.convert import failure_from_pb, failure_to_pb, from_rpc_error, request_from_pb, sampling_to_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.core.errors import BY_CODE, PeerLostError, RequestError
from prfaas.core.request import MAX_SEED, SamplingParams

SAMPLING = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 2**31),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, MAX_SEED),
    stop_token_ids=st.frozensets(st.integers(0, 2**32 - 1), max_size=5),
    ignore_eos=st.booleans(),
)


@given(SAMPLING, st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
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


async def test_an_unreachable_peer_is_named() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await InstanceStub(channel).Drain(pb.DrainRequest())
    error = from_rpc_error(caught.value, "east-prefill-0")
    assert isinstance(error, PeerLostError)
    assert str(error).startswith("east-prefill-0: ")
