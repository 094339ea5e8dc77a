"""What an instance is told about requests to come. Does not know what its engine makes of it."""

from prfaas.config.sections import checked_address
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import RequestError
from prfaas.core.ids import BLOCK_HASH_BYTES, BlockHash, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.messages import Announce
from prfaas.instance.identity import Identity
from prfaas.instance.prefix_fetch import PrefixFetches
from prfaas.instance.stream import Sender

_NO_ANSWER = SamplingParams(max_tokens=1)
"""Of a prefix nothing is drawn."""


class AnnounceService:
    """Serves `Instance.Announce`. `max_blocks`: whole blocks of the longest prompt that this instance takes."""

    def __init__(self, identity: Identity, front: Sender, fetches: PrefixFetches, max_blocks: int) -> None:
        self._identity = identity
        self._front = front
        self._fetches = fetches
        self._max_blocks = max_blocks

    def announce(self, message: pb.AnnounceRequest) -> None:
        """Tells the engine, and begins to fetch a prefix that another instance has.

        Raises RequestError for what cannot be the hashes, or the prefix, of a prompt of this instance.
        """
        hashes = tuple(BlockHash(bytes(each)) for each in message.block_hashes)
        if len(hashes) > self._max_blocks:
            raise RequestError(f"{len(hashes)} block hashes; the longest prompt here has {self._max_blocks} blocks")
        if lengths := {len(each) for each in hashes} - {BLOCK_HASH_BYTES}:
            raise RequestError(f"a block hash has {BLOCK_HASH_BYTES} bytes, not {min(lengths)}")
        prefix = self._prefix(message) if message.HasField("source") else None
        self._front.send(Announce(message.request_id, hashes))
        if prefix is not None:
            self._fetches.begin(message.request_id, prefix, message.source)

    def cancel(self, request_id: str) -> bool:
        """The request will not come; False if nothing is fetched for it."""
        return self._fetches.cancel(request_id)

    async def close(self) -> None:
        """Gives up all that is being fetched."""
        await self._fetches.close()

    def _prefix(self, message: pb.AnnounceRequest) -> Request:
        source, tokens = message.source, len(message.prompt_token_ids)
        if source.instance_id == self._identity.instance_id:
            raise RequestError("an instance need not fetch a prefix from itself")
        if source.tokens != tokens or not 0 < tokens <= self._identity.max_context_tokens:
            raise RequestError(
                f"the prefix has {tokens} tokens, its source {source.tokens}; send as many as are to be fetched, "
                f"at most {self._identity.max_context_tokens}"
            )
        try:
            checked_address(source.control_address)
        except ValueError as error:
            raise RequestError(f"the source's control address: {error}") from None
        self._identity.check_tokens(message.prompt_token_ids)
        prompt = tuple(message.prompt_token_ids)
        return Request(RequestId(message.request_id), prompt, _NO_ANSWER, message.cache_salt)
