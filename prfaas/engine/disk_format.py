"""How an entry of the disk tier lies in its file: a header of 128 bytes, then its pages as they are in memory.

Knows no file system. Each entry has a file of its own, because then renaming it makes it appear, and deleting it makes
it go, at once and alone; a file takes one inode for at least a page, which is what file systems provide for.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from xxhash import xxh3_64_intdigest, xxh3_128, xxh3_128_digest

from prfaas.cache.changes import Part
from prfaas.core.ids import BLOCK_HASH_BYTES, BlockHash

HEADER_BYTES = 128
VERSION = 1
_MAGIC = b"prfaasKV"
_FILE_SYSTEM_BLOCK_BYTES = 4096
# Magic, version, part, whether there is a parent, payload's bytes; then scope, hash, parent and the payload's digest.
_FIELDS = struct.Struct("<8sHBB4xQ16s16s16s16s")
_CHECK = struct.Struct("<Q")
_PADDING = bytes(HEADER_BYTES - _FIELDS.size - _CHECK.size)
_PARTS: tuple[Part, ...] = ("kv", "state")


class Key(NamedTuple):
    """What an entry is found by."""

    part: Part
    block_hash: BlockHash


@dataclass(frozen=True, slots=True)
class Header:
    """One entry; `digest` is xxh3-128 of the `payload_bytes` that follow, `scope` the model and page format."""

    key: Key
    parent: BlockHash | None
    scope: bytes
    payload_bytes: int
    digest: bytes


def needed_by(key: Key, parent: BlockHash | None) -> Key | None:
    """The entry without which this one is useless: the block before, or for a snapshot the block that it ends."""
    if key.part == "state":
        return Key("kv", key.block_hash)
    return Key("kv", parent) if parent is not None else None


def scope_of(fingerprint: str, format_key: str) -> bytes:
    """16 bytes that are equal for equal models and page formats, and for these alone."""
    return xxh3_128_digest(f"{VERSION}:{len(fingerprint)}:{fingerprint}{format_key}".encode())


def occupied_bytes(payload_bytes: int) -> int:
    """What an entry takes on disk: whole blocks of the usual file systems, which matters for small pages."""
    return -(-(HEADER_BYTES + payload_bytes) // _FILE_SYSTEM_BLOCK_BYTES) * _FILE_SYSTEM_BLOCK_BYTES


def payload_digest(pages: Iterable[memoryview]) -> bytes:
    """xxh3-128 of `pages`, one after the other."""
    digest = xxh3_128()
    for page in pages:
        digest.update(page)
    return digest.digest()


def packed(header: Header) -> bytes:
    """The header's HEADER_BYTES bytes; the last eight are xxh3-64 of those before."""
    part, has_parent = _PARTS.index(header.key.part), header.parent is not None
    parent = header.parent or bytes(BLOCK_HASH_BYTES)
    fields = (part, has_parent, header.payload_bytes, header.scope, header.key.block_hash, parent, header.digest)
    body = _FIELDS.pack(_MAGIC, VERSION, *fields) + _PADDING
    return body + _CHECK.pack(xxh3_64_intdigest(body))


def unpacked(raw: bytes) -> Header | None:
    """The header in `raw`, or None if these are not HEADER_BYTES intact bytes of this version."""
    if len(raw) != HEADER_BYTES:
        return None
    body = raw[: -_CHECK.size]
    if _CHECK.unpack(raw[-_CHECK.size :])[0] != xxh3_64_intdigest(body):
        return None
    magic, version, part, has_parent, payload_bytes, scope, block_hash, parent, digest = _FIELDS.unpack_from(body)
    if (magic, version) != (_MAGIC, VERSION) or part >= len(_PARTS):
        return None
    key = Key(_PARTS[part], BlockHash(block_hash))
    return Header(key, BlockHash(parent) if has_parent else None, scope, payload_bytes, digest)


def file_name(key: Key) -> str:
    """E.g. `00ff….kv`, of 32 hexadecimal digits."""
    return f"{key.block_hash.hex()}.{key.part}"


def key_of(name: str) -> Key | None:
    """The entry that a file of this name holds, if the name is one of ours."""
    digits, _, suffix = name.partition(".")
    for part in _PARTS:
        if suffix == part and len(digits) == 2 * BLOCK_HASH_BYTES and not set(digits) - set("0123456789abcdef"):
            return Key(part, BlockHash(bytes.fromhex(digits)))
    return None
