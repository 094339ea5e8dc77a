"""docs/wire-format.md and the code say the same: numbers, limits, and the bytes of the worked example."""

import re
from pathlib import Path

import pytest

from prfaas.core.errors import BY_CODE
from prfaas.wire.header import CODEC_NAMES, HEADER_BYTES, Codec, FrameHeader, Kind, payload_digest, unpack
from prfaas.wire.messages import (
    MAX_MESSAGE_BYTES,
    MAX_OBJECTS,
    MAX_SMALL_MESSAGE_BYTES,
    Accepted,
    Manifest,
    Open,
    decode,
    encode,
)
from prfaas.wire.receiving import Phase, ReceiveSession
from tests.wire.worked_example import CONVERSATION, EXPECTATION, ROWS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(\w+)[^\n]*:\n\n```hex\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
EXAMPLE = {name: bytes.fromhex(block) for name, block in BLOCK.findall(DOCUMENT)}


def section(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def header_and_payload(name: str) -> tuple[FrameHeader, bytes]:
    data = EXAMPLE[name]
    header = unpack(data[:HEADER_BYTES], max_payload_bytes=MAX_SMALL_MESSAGE_BYTES)
    payload = data[HEADER_BYTES:]
    assert header.kind.name == name
    assert (len(payload), payload_digest([payload])) == (header.wire_bytes, header.digest)
    return header, payload


def test_the_example_is_what_we_send() -> None:
    assert list(EXAMPLE.items()) == list(CONVERSATION)


def test_the_example_commits() -> None:
    session = ReceiveSession(EXPECTATION)
    received = session.open(decode(header_and_payload("OPEN")[1], Open))
    assert encode(Accepted(received)) == header_and_payload("ACCEPTED")[1]
    header, payload = header_and_payload("OBJECT")
    landing = session.begin(header)
    assert landing is not None
    assert payload == ROWS
    assert session.placed(landing)
    session.manifest(decode(header_and_payload("MANIFEST")[1], Manifest))
    committed = session.commit()
    assert committed is not None
    assert committed.first_token_id == 42
    assert session.phase is Phase.COMMITTED


def test_kinds_and_codecs_have_the_documents_numbers() -> None:
    kinds = dict(re.findall(r"^\| (\d+) \| ([A-Z]+) \|", section("Frame"), re.MULTILINE))
    assert kinds == {str(int(kind)): kind.name for kind in Kind}
    codecs = dict(re.findall(r"^\| (\d+) \| `(\w+)` \|", section("Codecs"), re.MULTILINE))
    assert codecs == {str(int(codec)): CODEC_NAMES[codec] for codec in Codec}


def test_codes_are_known_and_limits_are_ours() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("Errors"), re.MULTILINE)
    codes = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert len(codes) > 10
    assert set(codes) <= set(BY_CODE)
    assert (MAX_SMALL_MESSAGE_BYTES, MAX_MESSAGE_BYTES, MAX_OBJECTS) == (64 << 10, 16 << 20, 1 << 18)


@pytest.mark.parametrize(("offset", "size", "field"), [(6, 2, "kind"), (44, 4, "wire_bytes"), (48, 8, "digest")])
def test_fields_lie_where_the_table_says(offset: int, size: int, field: str) -> None:
    assert f"| {offset} | {size} | {field} |" in DOCUMENT
    header, _ = header_and_payload("OBJECT")
    assert int.from_bytes(EXAMPLE["OBJECT"][offset : offset + size], "little") == getattr(header, field)
