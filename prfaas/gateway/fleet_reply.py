"""The fleet as JSON: what `GET /fleet` answers. Knows nobody who fills it in.

Times named `unix_s` are Unix time on the router's clock; `age_s` is seconds before now.
"""

import msgspec

from prfaas.gateway.fleet_history import Sample
from prfaas.gateway.loop_reply import LoopsReply
from prfaas.gateway.placement_log import Decision, Outcome
from prfaas.gateway.registry import State
from prfaas.policy.view import ClusterKind, Role


class LoadReply(msgspec.Struct, frozen=True):
    """An instance's load as its last heartbeat said it."""

    waiting_requests: int
    running_requests: int
    waiting_tokens: int
    pages_used: int
    pages_total: int
    pages_cached: int


class PrefixesReply(msgspec.Struct, frozen=True):
    """What this router knows of an instance's prefix cache: numbers of KV blocks, and of snapshots of states."""

    blocks: int
    snapshots: int


class QueueReply(msgspec.Struct, frozen=True):
    """What this router reckons with: heartbeats, and what it placed since. `seconds` is null without a profile."""

    requests: int
    tokens: int
    seconds: float | None


class RatesReply(msgspec.Struct, frozen=True):
    """What an instance measured of itself.

    `prefill_tokens_per_s`: of a prompt of 8,192 tokens, null until prompts were measured. `decode_step_s`: of one
    request alone, null until steps were.
    """

    prefill_tokens_per_s: float | None
    prefill_samples: int
    decode_step_s: float | None
    output_tokens: float


class InstanceReply(msgspec.Struct, frozen=True):
    """`age_s`: seconds since the last heartbeat; `role_age_s`: since it began to serve in its role.

    `converting_to`: the role for which it drains, if it does. `slots`: requests that it runs at once. `hit_rate`: share
    of the tokens of the latest prompts here that it did not compute.
    """

    name: str
    cluster: str
    role: Role
    state: State
    age_s: float
    converting_to: Role | None
    role_age_s: float
    epoch: int
    engine: str
    control_address: str
    data_address: str
    metrics_address: str
    model_fingerprint: str
    max_context_tokens: int
    block_tokens: int
    kv_events_address: str
    slots: int
    load: LoadReply
    queue: QueueReply
    prefixes: PrefixesReply
    hit_rate: float | None
    rates: RatesReply | None


class ClusterReply(msgspec.Struct, frozen=True):
    """`profile_measured`: the times that its instances take are measured, not a file's. `prefixes`: of all of them
    together; what several have counts as often."""

    name: str
    kind: ClusterKind
    profile_measured: bool
    prefixes: PrefixesReply


class LinkReply(msgspec.Struct, frozen=True):
    """The way from an instance to a cluster, as the instance measured it; `age_s`: seconds since bytes crossed."""

    instance: str
    source: str
    target: str
    bytes_per_s: float
    rtt_s: float
    min_rtt_s: float
    retransmitted: float
    utilisation: float
    queued_s: float
    queued_bytes: int
    streams: int
    age_s: float


class PathReply(msgspec.Struct, frozen=True):
    """The way from one cluster to another, as placements see it: what all instances measured, or the file described.

    `bytes_per_s`: what it delivers when there is enough to send; of that the share `utilisation` is in use. `age_s`:
    null where nobody has measured it.
    """

    source: str
    target: str
    bytes_per_s: float
    utilisation: float
    queued_s: float
    queued_bytes: int
    rtt_s: float
    retransmitted: float
    usd_per_gb: float
    age_s: float | None


class PlacementReply(msgspec.Struct, frozen=True):
    """One request. `decision`: "remote" (in another cluster), "local", or "decode" (where it is decoded).

    `expected_ttft_s`: by the policy, from placement; `ttft_s`: measured, from arrival. `code`: of the error that it
    failed with, or that made the decode instance prefill it.
    """

    number: int
    request: str
    unix_s: float
    prompt_tokens: int
    cached_tokens: int
    decision: Decision
    prefill: str
    decode: str
    reason: str
    expected_ttft_s: float | None
    ttft_s: float | None
    outcome: Outcome
    code: str
    attempt: int
    cache_from: str | None


class HitsReply(msgspec.Struct, frozen=True):
    """Shares of the latest requests' prompt tokens: that the directory said are cached, and that were not computed."""

    predicted: float | None
    realised: float | None


class AdmissionReply(msgspec.Struct, frozen=True):
    """Requests in this router. `refused`: since its start, by reason."""

    outstanding: int
    waiting_interactive: int
    waiting_batch: int
    max_waiting: int
    refused: dict[str, int]


class FleetReply(msgspec.Struct, frozen=True):
    """The fleet as this router sees it; `threshold_tokens` is above what prompts go to a prfaas cluster now.

    `loops`: null where this router has none. `worker`: which of a router's several processes answers; null: there is
    one. `latest`: null in the first second.
    """

    unix_s: float
    model: str
    policy: str
    worker: int | None
    workers: int
    threshold_tokens: int
    draining: bool
    clusters: list[ClusterReply]
    instances: list[InstanceReply]
    links: list[LinkReply]
    paths: list[PathReply]
    loops: LoopsReply | None
    placements: list[PlacementReply]
    hits: HitsReply
    admission: AdmissionReply
    latest: Sample | None
