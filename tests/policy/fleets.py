"""Small fleets for tests of policies: the hardware of the PrfaaS paper's case study, as its tables have it."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import ClusterKind, ClusterView, InstanceView, LinkView, PlacementRequest, PolicyParams, Role

KV_BYTES, STATE_BYTES = 16.5 * 1024, 174.0 * 2**20
"""Of a token, and of a request (table 5)."""
DECODE = DecodeCurve(((1, 0.025),), max_batch=20)
H200 = Profile(
    "8xH200",
    PrefillCurve(0.44, 3.9e-5, 1.3e-10, ((1024, 0.44), (8192, 0.72), (32768, 1.84), (131072, 7.40))),
    DECODE,
    KV_BYTES,
    STATE_BYTES,
    5e11,
)
H20 = Profile("8xH20", PrefillCurve(0.46554, 1.305201e-4, 2.87214e-10), DECODE, KV_BYTES, STATE_BYTES, 5e11)
PROFILES = {profile.name: profile for profile in (H200, H20)}

PARAMS = PolicyParams(threshold_tokens=19_400)
KINDS: dict[str, ClusterKind] = {"east": "prfaas", "north": "prfaas", "west": "pd", "south": "pd"}
ROLES: dict[str, Role] = {"p": "prefill", "x": "prefill", "d": "decode"}


def seat(name: str, cluster: str, **load: Any) -> InstanceView:
    """`x…` prefill on H200, `p…` prefill and `d…` decode on H20, unless `load` says otherwise."""
    profile = H200 if name.startswith("x") else H20
    facts: dict[str, Any] = {"profile": profile, "max_running": 20, **load}
    return InstanceView(InstanceId(name), ClusterName(cluster), KINDS[cluster], ROLES[name[0]], **facts)


def way(source: str, target: str, **state: Any) -> LinkView:
    """100 Gbit/s and 20 ms, idle, unless `state` says otherwise."""
    facts: dict[str, Any] = {
        "bytes_per_s": 12.5e9,
        "rtt_s": 0.02,
        "min_rtt_s": 0.02,
        "retransmitted": 0.0,
        "queued_bytes": 0,
        "queued_s": 0.0,
        "age_s": 1.0,
        **state,
    }
    return LinkView(ClusterName(source), ClusterName(target), **facts)


def fleet(*instances: InstanceView, links: tuple[LinkView, ...] = (way("east", "west"),)) -> ClusterView:
    return ClusterView.of(instances, links)


def cached(**tokens: int) -> dict[InstanceId, int]:
    return {InstanceId(name): count for name, count in tokens.items()}


SEATS = {
    "d0": "west",
    "d1": "west",
    "d2": "south",
    "p0": "west",
    "p1": "west",
    "p2": "south",
    "x0": "east",
    "x1": "east",
    "x2": "north",
}


@st.composite
def views(draw: st.DrawFn, *, profiled: bool | None = None) -> ClusterView:
    """Any of nine instances in any state, and any links between their clusters."""
    known = draw(st.booleans()) if profiled is None else profiled
    instances = []
    for name in draw(st.lists(st.sampled_from(sorted(SEATS)), unique=True, max_size=len(SEATS))):
        load = {
            "waiting_tokens": draw(st.sampled_from([0, 0, 100, 5000, 80_000])),
            "waiting_requests": draw(st.integers(0, 3)),
            "running_requests": draw(st.integers(0, 25)),
            "max_running": draw(st.sampled_from([0, 20])),
        }
        view = seat(name, SEATS[name], **load)
        instances.append(view if known else replace(view, profile=None))
    links = []
    for ends in draw(st.lists(st.sampled_from([(a, b) for a in KINDS for b in KINDS if a != b]), unique=True)):
        state: dict[str, Any] = {
            "bytes_per_s": draw(st.sampled_from([0.0, 1e7, 1e9, 12.5e9])),
            "queued_s": draw(st.sampled_from([0.0, 0.1, 5.0])),
            "queued_bytes": draw(st.sampled_from([0, 10**9])),
            "age_s": draw(st.sampled_from([0.5, 100.0, float("inf")])),
            "utilisation": draw(st.floats(0, 1)),
            "usd_per_gb": draw(st.sampled_from([0.0, 0.02, 1.0])),
            "up": draw(st.booleans()),
        }
        links.append(way(*ends, **state))
    return ClusterView.of(instances, links)


prefixes = st.dictionaries(st.sampled_from([InstanceId(name) for name in SEATS]), st.integers(0, 140_000))
requests = st.builds(
    PlacementRequest,
    prompt_tokens=st.integers(1, 131_072),
    cached_tokens=prefixes,
    whole_on_decode=st.booleans(),
    force=st.sampled_from([None, None, None, "local", "remote"]),
    exclude=st.frozensets(st.sampled_from([InstanceId(name) for name in SEATS]), max_size=3),
)
knobs = st.builds(
    PolicyParams,
    threshold_tokens=st.sampled_from([0, 1000, 19_400, 10**9]),
    margin=st.sampled_from([0.0, 0.25, 0.9]),
    cache_transfers=st.booleans(),
    codecs=st.sampled_from([frozenset({"raw"}), frozenset({"raw", "exact"}), frozenset({"raw", "int8", "state16"})]),
    slo_ttft_s=st.sampled_from([None, 2.0]),
)
