"""The digest of bytes in many places: that of the same bytes in one, by the library that defines it for us."""

from random import Random

import pytest
import xxhash

from prfaas_kernels.bytes_codec import SpansDigest, digest

STRIPE = 64
BLOCK = 1024
LENGTHS = (241, 255, 256, 257, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + STRIPE, 4 * BLOCK, 5 * BLOCK - STRIPE, 20_001)


@pytest.fixture(scope="module")
def spans_digest() -> SpansDigest:
    return SpansDigest.open()


@pytest.fixture(autouse=True)
def parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LEAST_PART_BYTES", 0)


@pytest.mark.parametrize("length", LENGTHS)
def test_cuts_do_not_matter(spans_digest: SpansDigest, length: int) -> None:
    random = Random(length)
    data = random.randbytes(length)
    for _ in range(40):
        cuts = sorted(random.choices(range(length + 1), k=random.randrange(1, 12)))
        # Empty parts, parts within a stripe and over several; some of memory that cannot be written to.
        edges = list(zip([0, *cuts], [*cuts, length], strict=True))
        parts = [bytearray(data[a:b]) if random.random() < 0.5 else data[a:b] for a, b in edges]
        assert spans_digest(parts) == xxhash.xxh3_64_intdigest(data)


def test_a_part_that_changes_changes_it(spans_digest: SpansDigest) -> None:
    parts = [bytearray(1000), bytearray(100), bytearray(30)]
    before = spans_digest(parts)
    for part in parts:
        part[-1] ^= 1
        assert spans_digest(parts) != before
        part[-1] ^= 1


def test_small_and_single_parts(spans_digest: SpansDigest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LEAST_PART_BYTES", 1 << 14)
    assert spans_digest([]) == xxhash.xxh3_64_intdigest(b"")
    assert spans_digest([b"a", b"", b"b"]) == xxhash.xxh3_64_intdigest(b"ab")
    assert spans_digest([b"a" * 100_000]) == xxhash.xxh3_64_intdigest(b"a" * 100_000)
