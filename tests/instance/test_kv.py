"""What an export sends and an import makes of it, between pages of unlike size and dtype, in every codec."""

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from prfaas.config.sections import CodecName
from prfaas.core.errors import ManifestError
from prfaas.core.shape import DType
from prfaas.instance.kv import KvImport
from prfaas.instance.kv_codec import FAMILIES, KvCodec
from prfaas.instance.kv_encoding import Encoding, Encodings
from prfaas.policy.codec import Route
from prfaas.wire.header import LOSSY, Codec, ObjectKey
from prfaas.wire.tensors import usable_codecs
from tests.instance.kv_end import FRAME_BYTES, TOKENS, End, Sent, export

ALL: tuple[CodecName, ...] = get_args(CodecName)
DEAR = Route(usd_per_gb=0.1)


@pytest.fixture(scope="module")
def codec() -> KvCodec:
    return KvCodec.open()


def encoding(codec: KvCodec | None, *offered: CodecName, route: Route = DEAR) -> Encoding:
    return Encodings(codec, ALL, lambda _: route, lambda: 0.0).to("west", offered)


def place(sent: Sent, sender: End, receiver: End, codec: KvCodec | None) -> set[Codec]:
    """As a receiver does; the codecs that came."""
    destination = KvImport(receiver.shape, receiver.memory, receiver.pages, receiver.state_pages, codec)
    came = set()
    for key, (payload, data) in sent.payloads().items():
        assert len(data) <= payload.raw_bytes <= FRAME_BYTES
        assert payload.codec in usable_codecs(sender.shape, key.layer, key.tensor)
        came.add(payload.codec)
        views = destination.views(key, payload.codec, sender.shape)
        if views is None:
            destination.place(key, payload.codec, sender.shape, memoryview(data))
            continue
        at = 0
        for view in views:
            view[:] = data[at : at + view.nbytes]
            at += view.nbytes
        assert at == len(data)
    return came


def covered(sent: Sent) -> dict[tuple[int, int], set[int]]:
    rows: dict[tuple[int, int], set[int]] = {}
    for key in sent.sources:
        mine = set(range(key.start, key.end))
        assert not mine & rows.setdefault((key.layer, key.tensor), set())
        rows[key.layer, key.tensor] |= mine
    return rows


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To bf16, by another way than the product's."""
    bits = values.view(np.uint32).astype(np.uint64)
    low = bits & 0xFFFF
    up = (low > 0x8000) | ((low == 0x8000) & (bits >> 16 & 1 == 1))
    near: NDArray[np.uint32] = (((bits >> 16) + up) << 16).astype(np.uint32)
    return near.view(np.float32)


@pytest.mark.parametrize("own", ["float32", "bfloat16"])
@pytest.mark.parametrize("sent_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("offered", [("raw",), ("raw", "exact"), ALL])
def test_what_is_sent_is_what_arrives(
    codec: KvCodec, sent_dtype: DType, own: DType, offered: tuple[CodecName, ...]
) -> None:
    sender, receiver = End(sent_dtype, 16, seed=1), End(own, 10, seed=2)
    sender.fill()
    sent = export(sender, encoding(codec, *offered))
    came = place(sent, sender, receiver, codec)
    expected = {Codec.RAW} if "exact" not in offered or sent_dtype == "float32" else {Codec.EXACT}
    if offered == ALL:
        expected |= {Codec.INT8_CHANNEL, Codec.INT8_TOKEN, Codec.STATE16}
    assert came - {Codec.RAW} == expected - {Codec.RAW}
    for layer, cache in enumerate(sender.shape.layers):
        for tensor, cached in enumerate(cache.tensors):
            have, want = receiver.values(layer, tensor), sender.values(layer, tensor)
            if offered == ALL and (cache.paged or cached.name == "state"):
                error = np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2))
                assert error < 0.01, (cache.kind, cached.name)
            else:
                narrows = cached.dtype == "float32" and receiver.shape.layers[layer].tensors[tensor].dtype != "float32"
                assert np.array_equal(have, rounded(want) if narrows else want), (cache.kind, cached.name)


@pytest.mark.parametrize(("cached", "held"), [(0, 0), (64, 0), (64, 32), (32, 64), (0, TOKENS)])
def test_every_row_that_is_lacking_goes_once(codec: KvCodec, cached: int, held: int) -> None:
    end = End("bfloat16", 16, seed=1)
    rows = covered(export(end, encoding(codec, *ALL), cached=cached, held=held))
    for layer, cache in enumerate(end.shape.layers):
        for tensor in range(len(cache.tensors)):
            first = held if cache.paged else 0
            assert rows.get((layer, tensor), set()) == set(range(first, cache.num_rows(tensor, TOKENS)))


def test_keys_go_by_channel_and_values_by_token(codec: KvCodec) -> None:
    end = End("bfloat16", 16, seed=1)
    end.fill()
    for key, (payload, _) in export(end, encoding(codec, *ALL)).payloads().items():
        cache = end.shape.layers[key.layer]
        if cache.paged:
            by_channel = cache.tensors[key.tensor].name == "k"
            assert payload.codec is (Codec.INT8_CHANNEL if by_channel else Codec.INT8_TOKEN)


def test_what_was_rounded_is_not_rounded_again(codec: KvCodec) -> None:
    end = End("bfloat16", 16, seed=1)
    end.fill()
    sent = export(end, encoding(codec, *ALL), cached=64, lossy_tokens=48, lossy_state=True)
    for key, (payload, _) in sent.payloads().items():
        again = not end.shape.layers[key.layer].paged or key.end <= 48
        assert (payload.codec in LOSSY) == (not again), key
        assert payload.codec is not Codec.EXACT or again


def test_a_state_that_is_not_finite_goes_as_it_is(codec: KvCodec) -> None:
    sender, receiver = End("bfloat16", 16, seed=1), End("bfloat16", 16, seed=2)
    sender.fill()
    state = sender.values(0, 0).copy()
    state[5] = np.nan
    sender.put(0, 0, state.reshape(3, -1))
    place(export(sender, encoding(codec, *ALL)), sender, receiver, codec)
    assert np.array_equal(receiver.values(0, 0), state, equal_nan=True)


@pytest.mark.parametrize(
    "route", [Route(), Route(rate_bytes_s=1e15)], ids=["a path of which nothing is known", "a link that is faster"]
)
def test_where_encoding_does_not_pay_all_goes_raw(codec: KvCodec, route: Route) -> None:
    end = End("bfloat16", 16, seed=1)
    payloads = export(end, encoding(codec, *ALL, route=route)).payloads()
    assert {payload.codec for payload, _ in payloads.values()} == {Codec.RAW}


def test_a_link_that_is_slower_than_prefill_gets_encoded_bytes(codec: KvCodec) -> None:
    end, now = End("bfloat16", 16, seed=1), iter(range(1000))
    end.fill()
    made_bytes_s = end.shape.cache_bytes(TOKENS) / 1000
    slow = Encoding(codec, frozenset(ALL), lambda: Route(made_bytes_s / 1e3), lambda: float(next(now)))
    codecs = {payload.codec for payload, _ in export(end, slow).payloads().values()}
    assert Codec.INT8_TOKEN in codecs
    fast = Encoding(codec, frozenset(ALL), lambda: Route(made_bytes_s * 1e6), lambda: float(next(now)))
    # Until something has been made, nothing is known of how fast that goes.
    first, *_, last = [payload.codec for payload, _ in export(end, fast).payloads().values()]
    assert (first, last) == (Codec.INT8_CHANNEL, Codec.RAW)


def test_without_a_compiler_all_goes_raw() -> None:
    sender, receiver = End("bfloat16", 16, seed=1), End("float32", 10, seed=2)
    sender.fill()
    assert place(export(sender, encoding(None, *ALL)), sender, receiver, None) == {Codec.RAW}
    destination = KvImport(receiver.shape, receiver.memory, receiver.pages, receiver.state_pages, None)
    with pytest.raises(ManifestError, match="not offered"):
        destination.place(ObjectKey(1, 0, 0, 1), Codec.INT8_TOKEN, sender.shape, memoryview(b""))


def test_every_codec_of_the_wire_has_a_name_in_tickets() -> None:
    assert FAMILIES.keys() == set(ALL)
    assert sorted(codec for family in FAMILIES.values() for codec in family) == sorted(Codec)


def test_names_that_nobody_knows_are_left_out(codec: KvCodec) -> None:
    never_heard_of = Encodings(codec, ALL, lambda _: DEAR, lambda: 0.0).to("west", ["zstd", "raw"])
    end = End("bfloat16", 16, seed=1)
    assert never_heard_of.codec_for(end.shape, 1, 0, rounded=False) is Codec.RAW


@pytest.mark.parametrize("own", ["float32", "bfloat16"])
@pytest.mark.parametrize("came", [Codec.EXACT, Codec.INT8_CHANNEL, Codec.INT8_TOKEN, Codec.STATE16])
def test_bytes_that_no_encoder_makes_are_refused(codec: KvCodec, came: Codec, own: DType) -> None:
    sender, receiver = End("bfloat16", 16, seed=1), End(own, 10, seed=2)
    destination = KvImport(receiver.shape, receiver.memory, receiver.pages, receiver.state_pages, codec)
    key = ObjectKey(0, 0, 0, 3) if came is Codec.STATE16 else ObjectKey(1, 0, 0, 100)
    assert destination.views(key, came, sender.shape) is None
    with pytest.raises(ManifestError, match="cannot be decoded"):
        destination.place(key, came, sender.shape, memoryview(bytes(777)))
