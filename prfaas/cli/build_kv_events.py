"""Opens the ports on which an instance tells what it caches."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from prfaas.config.sections import EngineSection, InstanceSection
from prfaas.control.curve import CurveKeys
from prfaas.control.kv_publisher import KvPublisher
from prfaas.control.listen import advertised, listener
from prfaas.core.shape import ModelShape
from prfaas.instance.kv_events import KvEvents, kv_kind_of


@dataclass(frozen=True, slots=True)
class BuiltKvEvents:
    """Events ready to start, and where others hear them (host:port)."""

    events: KvEvents
    kv_events: str
    kv_replay: str
    public_key: str
    """Of both sockets; empty where they are not encrypted."""
    allow: Callable[[str], None]
    """Lets a follower with this public key in."""


def build_kv_events(
    section: InstanceSection, key: str, settings: EngineSection, shape: ModelShape, *, encrypted: bool
) -> BuiltKvEvents | None:
    """None where nothing is cached. `key` is the instance's dotted key. Raises ConfigError for ports not to be had."""
    if not settings.prefix_cache.enabled:
        return None
    with ExitStack() as opened:
        events = opened.enter_context(listener(section.kv_events, f"{key}.kv_events"))
        replay = opened.enter_context(listener(section.kv_replay, f"{key}.kv_replay"))
        host = section.advertise_host
        where = advertised(events.getsockname()[1], section.kv_events, host, f"{key}.kv_events")
        again = advertised(replay.getsockname()[1], section.kv_replay, host, f"{key}.kv_replay")
        opened.pop_all()
    keys = CurveKeys.new() if encrypted else None
    publisher = KvPublisher(events, replay, time.time, keys=keys)
    mirror = KvEvents(publisher, settings.page_tokens, kv_kind_of(shape))
    return BuiltKvEvents(mirror, where, again, keys.public if keys else "", publisher.allow)
