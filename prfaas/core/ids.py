"""Identifiers that cross process boundaries."""

import secrets
from typing import NewType

RequestId = NewType("RequestId", str)
InstanceId = NewType("InstanceId", str)
ClusterName = NewType("ClusterName", str)
TransferId = NewType("TransferId", bytes)
BlockHash = NewType("BlockHash", bytes)
"""Names a block of tokens together with all that came before it; see `prfaas.cache.hashing`."""

TRANSFER_ID_BYTES = 16
SECRET_BYTES = 16
BLOCK_HASH_BYTES = 16


def new_request_id(prefix: str) -> RequestId:
    """A request id as OpenAI clients expect it, e.g. `chatcmpl-…` with 96 random bits."""
    return RequestId(f"{prefix}-{secrets.token_hex(12)}")


def new_transfer_id() -> TransferId:
    """Sixteen random bytes: unique without coordination between instances."""
    return TransferId(secrets.token_bytes(TRANSFER_ID_BYTES))


def new_secret() -> bytes:
    """What a sender must show to write into a reservation; it lives as long as the ticket."""
    return secrets.token_bytes(SECRET_BYTES)


def new_epoch() -> int:
    """Distinguishes two lives of one instance name; 32 random bits, never 0."""
    return secrets.randbelow(2**32 - 1) + 1
