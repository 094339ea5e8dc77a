"""What an instance is told about requests to come. Does not know what its engine makes of it."""

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import RequestError
from prfaas.core.ids import BLOCK_HASH_BYTES, BlockHash
from prfaas.engine.messages import Announce
from prfaas.instance.stream import Sender


class AnnounceService:
    """Serves `Instance.Announce`. `max_blocks`: whole blocks of the longest prompt that this instance takes."""

    def __init__(self, front: Sender, max_blocks: int) -> None:
        self._front = front
        self._max_blocks = max_blocks

    def announce(self, message: pb.AnnounceRequest) -> None:
        """Tells the engine. Raises RequestError for what cannot be the hashes of a prompt of this instance."""
        hashes = tuple(BlockHash(bytes(each)) for each in message.block_hashes)
        if len(hashes) > self._max_blocks:
            raise RequestError(f"{len(hashes)} block hashes; the longest prompt here has {self._max_blocks} blocks")
        if lengths := {len(each) for each in hashes} - {BLOCK_HASH_BYTES}:
            raise RequestError(f"a block hash has {BLOCK_HASH_BYTES} bytes, not {min(lengths)}")
        self._front.send(Announce(message.request_id, hashes))
