"""KV events from their bytes, whoever sent them: maps, or arrays from older servers.

Knows no sockets. Tokens of blocks with names of the fleet's own are not looked at: they are most of the bytes.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from prfaas.control.kv_events import AllBlocksCleared, BlockName, BlockRemoved, BlockStored, KvBatch, KvEvent
from prfaas.core.errors import WireError

OWN_NAME_BYTES = 16
"""Of the names that `prfaas.cache.hashing` gives; engines that name blocks otherwise tell integers, or 32 bytes."""

_Token = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Raw = msgspec.Raw


class _StoredFields(msgspec.Struct, frozen=True, gc=False):
    """Those of `BlockStored` in its order; the later ones are not sent by all servers."""

    block_hashes: tuple[BlockName, ...]
    parent_block_hash: BlockName | None
    token_ids: _Raw
    block_size: Annotated[int, Meta(gt=0)]
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: tuple[tuple[Any, ...] | None, ...] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None


class _RemovedFields(msgspec.Struct, frozen=True, gc=False):
    block_hashes: tuple[BlockName, ...]
    medium: str | None = None
    group_idx: int | None = None


class _StoredMap(_StoredFields, frozen=True, tag="BlockStored"):
    pass


class _RemovedMap(_RemovedFields, frozen=True, tag="BlockRemoved"):
    pass


class _StoredArray(_StoredFields, frozen=True, tag="BlockStored", array_like=True):
    pass


class _RemovedArray(_RemovedFields, frozen=True, tag="BlockRemoved", array_like=True):
    pass


class _ClearedArray(msgspec.Struct, frozen=True, tag="AllBlocksCleared", array_like=True):
    pass


class _Maps(msgspec.Struct, array_like=True):
    ts: float
    events: list[_StoredMap | _RemovedMap | AllBlocksCleared]
    data_parallel_rank: int | None = None


class _Arrays(msgspec.Struct, array_like=True):
    ts: float
    events: list[_StoredArray | _RemovedArray | _ClearedArray]
    data_parallel_rank: int | None = None


_maps = msgspec.msgpack.Decoder(_Maps)
_arrays = msgspec.msgpack.Decoder(_Arrays)
_tokens = msgspec.msgpack.Decoder(tuple[_Token, ...])


def decode(payload: bytes, *, all_tokens: bool = False) -> KvBatch:
    """Fields that are not known here are skipped; so are tokens of blocks with names of our own, but with `all_tokens`.

    Raises WireError for anything else, an event of an unknown type included: what it did to the cache is not known.
    """
    try:
        raw = _read(payload)
        events = tuple([_event(event, all_tokens=all_tokens) for event in raw.events])
        return KvBatch(raw.ts, events, raw.data_parallel_rank)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a batch of KV events: {error}") from error


def _read(payload: bytes) -> _Maps | _Arrays:
    try:
        return _maps.decode(payload)
    except msgspec.ValidationError as error:
        try:
            return _arrays.decode(payload)
        except msgspec.ValidationError:
            # What servers send today is what most faults are in.
            raise error from None


def _event(raw: _StoredFields | _RemovedFields | AllBlocksCleared | _ClearedArray, *, all_tokens: bool) -> KvEvent:
    if isinstance(raw, _StoredFields):
        return BlockStored(
            raw.block_hashes,
            raw.parent_block_hash,
            _tokens.decode(raw.token_ids) if all_tokens or not is_own(raw.block_hashes) else (),
            raw.block_size,
            raw.lora_id,
            raw.medium,
            raw.lora_name,
            raw.extra_keys,
            raw.group_idx,
            raw.kv_cache_spec_kind,
            raw.kv_cache_spec_sliding_window,
        )
    if isinstance(raw, _RemovedFields):
        return BlockRemoved(raw.block_hashes, raw.medium, raw.group_idx)
    return AllBlocksCleared()


def is_own(names: tuple[BlockName, ...]) -> bool:
    """Whether these are names of ours, by their looks; an engine uses one kind for all."""
    return not names or (isinstance(names[0], bytes) and len(names[0]) == OWN_NAME_BYTES)
