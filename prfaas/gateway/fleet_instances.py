"""Instances and links as `GET /fleet` shows them, out of what they said of themselves. Pure."""

from prfaas.control.convert import ROLE_FROM_PB
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.gateway.directory import Known
from prfaas.gateway.fleet_reply import (
    InstanceReply,
    LinkReply,
    LoadReply,
    PathReply,
    PrefixesReply,
    QueueReply,
    RatesReply,
)
from prfaas.gateway.measured_links import InstanceLink
from prfaas.gateway.registry import FleetEntry
from prfaas.gateway.reported_rates import prefill_s
from prfaas.policy.view import InstanceView, LinkView

TYPICAL_TOKENS = 8192
NEVER_S = float("inf")


def instance_reply(
    entry: FleetEntry, placed: InstanceView | None, known: Known, hit_rate: float | None
) -> InstanceReply:
    """`placed`: the instance as placements see it; None: they do not, since it is silent or drains."""
    info, view = entry.info, placed or entry.view
    return InstanceReply(
        name=info.instance_id,
        cluster=info.cluster,
        role=entry.role,
        state=entry.state,
        age_s=round(entry.age_s, 3),
        converting_to=ROLE_FROM_PB.get(entry.load.converting_to),
        role_age_s=round(entry.load.role_age_s, 3),
        epoch=info.epoch,
        engine=info.engine,
        control_address=info.control_address,
        data_address=info.data_address,
        metrics_address=info.metrics_address,
        model_fingerprint=info.model_fingerprint,
        max_context_tokens=info.max_context_tokens,
        block_tokens=info.block_tokens,
        kv_events_address=info.kv_events_address,
        slots=view.max_running,
        load=_load(entry.load),
        queue=QueueReply(view.requests, view.waiting_tokens, round(view.queue_s, 3) if view.profile else None),
        prefixes=PrefixesReply(known.blocks, known.snapshots),
        hit_rate=None if hit_rate is None else round(hit_rate, 4),
        rates=_rates(entry.rates) if entry.rates else None,
    )


def link_reply(link: InstanceLink) -> LinkReply:
    """What one instance measured."""
    report = link.report
    return LinkReply(
        instance=link.instance_id,
        source=link.source,
        target=report.cluster,
        bytes_per_s=round(report.bytes_per_s),
        rtt_s=report.rtt_s,
        min_rtt_s=report.min_rtt_s,
        retransmitted=report.retransmitted,
        utilisation=round(report.utilisation, 3),
        queued_s=round(report.queued_s, 3),
        queued_bytes=report.queued_bytes,
        streams=report.streams,
        age_s=round(link.age_s, 3),
    )


def path_reply(link: LinkView) -> PathReply:
    """What all instances measured together."""
    return PathReply(
        source=link.source,
        target=link.target,
        bytes_per_s=round(link.bytes_per_s),
        utilisation=round(link.utilisation, 3),
        queued_s=round(link.queued_s, 3),
        queued_bytes=link.queued_bytes,
        rtt_s=round(link.rtt_s, 6),
        retransmitted=round(link.retransmitted, 5),
        usd_per_gb=link.usd_per_gb,
        age_s=None if link.age_s == NEVER_S else round(link.age_s, 1),
    )


def _load(load: pb.Load) -> LoadReply:
    return LoadReply(
        waiting_requests=load.waiting_requests,
        running_requests=load.running_requests,
        waiting_tokens=load.waiting_tokens,
        pages_used=load.pages_used,
        pages_total=load.pages_total,
        pages_cached=load.pages_cached,
    )


def _rates(rates: pb.Rates) -> RatesReply:
    alone = next((point.seconds for point in rates.decode), None)
    return RatesReply(
        prefill_tokens_per_s=round(TYPICAL_TOKENS / prefill_s(rates, TYPICAL_TOKENS), 1)
        if rates.prefill_samples
        else None,
        prefill_samples=rates.prefill_samples,
        decode_step_s=None if alone is None else round(alone, 6),
        output_tokens=round(rates.output_tokens, 1),
    )
