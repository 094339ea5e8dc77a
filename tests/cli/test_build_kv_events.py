"""The ports of an instance's KV events, and what comes out of them."""

import socket

import pytest

from prfaas.cache.changes import Stored
from prfaas.cli.build_kv_events import build_kv_events
from prfaas.config.sections import EngineSection, InstanceSection, PrefixCacheSection
from prfaas.control.kv_events import MAMBA, MLA_ATTENTION, BlockStored, KvEvent
from prfaas.core.errors import ConfigError
from prfaas.core.ids import BlockHash
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from tests.control.kv_rig import listener, until

LATENT = LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (4,), "float32"),))
SHAPE = ModelShape("tiny", (LATENT,), 100)
ENGINE = EngineSection(page_tokens=2)


def section(**fields: str) -> InstanceSection:
    return InstanceSection.model_validate({"name": "a", "role": "decode"} | fields)


async def test_changes_reach_a_subscriber_early_and_late() -> None:
    built = build_kv_events(section(), "key", ENGINE, SHAPE, encrypted=False)
    assert built
    one, two, three = (BlockHash(bytes([n]) * 16) for n in (1, 2, 3))
    built.events.start()
    built.events.take([Stored("kv", one, None, (5, 6)), Stored("kv", two, one, (7, 8))])
    async with listener(built.kv_events, built.kv_replay) as heard:
        await until(lambda: heard.held == {one, two})
        built.events.take([Stored("state", two, one, ())])
        built.events.take([Stored("kv", three, two, (9, 10))])
        await until(lambda: len(heard.batches) == 4)
    # The second is the last batch before the subscriber came, which ends what it is told first.
    early, again, *late = heard.batches
    stored: list[KvEvent] = [event for batch in (early, *late) for event in batch if isinstance(event, BlockStored)]
    assert again == (stored[0],)
    assert stored == [
        BlockStored((one, two), None, (), 2, None, "GPU", None, group_idx=0, kv_cache_spec_kind=MLA_ATTENTION),
        BlockStored((two,), one, (), 2, None, "GPU", None, group_idx=1, kv_cache_spec_kind=MAMBA),
        BlockStored((three,), two, (), 2, None, "GPU", None, group_idx=0, kv_cache_spec_kind=MLA_ATTENTION),
    ]
    await built.events.close()


async def test_an_instance_that_caches_nothing_opens_nothing() -> None:
    settings = EngineSection(prefix_cache=PrefixCacheSection(enabled=False))
    assert build_kv_events(section(), "key", settings, SHAPE, encrypted=False) is None


@pytest.mark.parametrize("name", ["kv_events", "kv_replay"])
def test_ports_that_cannot_be_had(name: str) -> None:
    """What was opened before the fault is closed again, or a warning of a forgotten socket fails the test."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"key.{name}: {address} is already in use"):
            build_kv_events(section(**{name: address}), "key", ENGINE, SHAPE, encrypted=False)
    with pytest.raises(ConfigError, match=f"key.{name}: .* advertise_host"):
        build_kv_events(section(**{name: "0.0.0.0:0"}), "key", ENGINE, SHAPE, encrypted=False)


async def test_listening_everywhere() -> None:
    built = build_kv_events(
        section(kv_events="0.0.0.0:0", advertise_host="127.0.0.1"), "key", ENGINE, SHAPE, encrypted=False
    )
    assert built
    built.events.start()
    async with listener(built.kv_events, built.kv_replay) as heard:
        await until(lambda: len(heard.batches) == 2)
    await built.events.close()
