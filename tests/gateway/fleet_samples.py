"""A fleet as it is told, for tests of what becomes of that."""

from typing import Any

import msgspec

from prfaas.gateway.fleet_history import LinkSample, Sample
from prfaas.gateway.fleet_reply import (
    AdmissionReply,
    ClusterReply,
    FleetReply,
    HitsReply,
    InstanceReply,
    LoadReply,
    PathReply,
    PlacementReply,
    PrefixesReply,
    QueueReply,
)

INSTANCE = InstanceReply(
    name="p-0",
    cluster="home",
    role="prefill",
    state="up",
    age_s=0.1,
    converting_to=None,
    role_age_s=10.0,
    epoch=1,
    engine="",
    control_address="127.0.0.1:1",
    data_address="",
    metrics_address="",
    model_fingerprint="f",
    max_context_tokens=0,
    block_tokens=0,
    kv_events_address="",
    slots=8,
    load=LoadReply(0, 2, 100, 10, 100, 5),
    queue=QueueReply(2, 100, 0.5),
    prefixes=PrefixesReply(3, 1),
    hit_rate=0.25,
    rates=None,
)
PLACEMENT = PlacementReply(
    number=1,
    request="cmpl-1",
    unix_s=1e9,
    prompt_tokens=500,
    cached_tokens=100,
    decision="remote",
    prefill="p-0",
    decode="d-0",
    reason="400 uncached tokens > threshold 100",
    expected_ttft_s=0.5,
    ttft_s=None,
    outcome="running",
    code="",
    attempt=1,
    cache_from=None,
)
PATH = PathReply("far", "home", 1e8, 0.5, 0.2, 7, 0.03, 0.0, 0.02, 1.0)


def sample(unix_s: float) -> Sample:
    return Sample(unix_s, 100, 1.5, 0.5, 0.1, 0.4, 0, [LinkSample("far", "home", 0.5, 0.2, 1e8)])


def fleet(**fields: Any) -> FleetReply:
    """With some fields as given."""
    whole = FleetReply(
        unix_s=1e9,
        model="tiny",
        policy="prfaas",
        worker=None,
        workers=1,
        threshold_tokens=100,
        draining=False,
        clusters=[ClusterReply("home", "pd", False, PrefixesReply(3, 1))],
        instances=[INSTANCE],
        links=[],
        paths=[PATH],
        loops=None,
        placements=[PLACEMENT],
        hits=HitsReply(0.2, 0.1),
        admission=AdmissionReply(1, 0, 0, 256, {"room_full": 2}),
        latest=sample(1e9),
    )
    return msgspec.structs.replace(whole, **fields)
