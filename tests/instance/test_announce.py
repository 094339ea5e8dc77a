"""Announcements over gRPC: what reaches the engine, and what is refused before it does."""

import grpc
import pytest

from prfaas.control.convert import from_rpc_error
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import RequestError
from prfaas.core.ids import BlockHash
from prfaas.engine.messages import Announce
from tests.eventually import eventually_async
from tests.instance.pair import MAX_TOKENS, PAGE_TOKENS, running

MAX_BLOCKS = MAX_TOKENS // PAGE_TOKENS


def hashes(count: int) -> list[bytes]:
    return [bytes([i]) * 16 for i in range(count)]


async def test_announcements_reach_the_engine_in_order() -> None:
    async with running() as pair:
        counts = (MAX_BLOCKS, 1, 0)
        for count in counts:
            await pair.far.stub.Announce(pb.AnnounceRequest(request_id=f"r{count}", block_hashes=hashes(count)))
        await eventually_async(lambda: len(pair.far.engine.seen.announced) == 3)
        assert pair.far.engine.seen.announced == [
            Announce(f"r{n}", tuple(BlockHash(each) for each in hashes(n))) for n in counts
        ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([*hashes(2), b""], "has 16 bytes, not 0"),
        ([b"x" * 15], "has 16 bytes, not 15"),
        ([b"x" * 17, *hashes(2)], "has 16 bytes, not 17"),
        (hashes(MAX_BLOCKS + 1), "17 block hashes; the longest prompt here has 16 blocks"),
    ],
)
async def test_what_no_prompt_can_have_is_refused(bad: list[bytes], said: str) -> None:
    async with running() as pair:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pair.far.stub.Announce(pb.AnnounceRequest(request_id="r", block_hashes=bad))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in (caught.value.details() or "")
        error = from_rpc_error(caught.value, "far")
        assert isinstance(error, RequestError)
        await pair.far.stub.Announce(pb.AnnounceRequest(request_id="good", block_hashes=hashes(1)))
        await eventually_async(lambda: bool(pair.far.engine.seen.announced))
        assert [each.request_id for each in pair.far.engine.seen.announced] == ["good"]
