"""What differs between two looks at the fleet, so that a page need not be told all of it every second. Pure."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from prfaas.gateway.fleet_history import Sample
from prfaas.gateway.fleet_reply import (
    AdmissionReply,
    ClusterReply,
    FleetReply,
    HitsReply,
    InstanceReply,
    PathReply,
    PlacementReply,
)
from prfaas.gateway.loop_reply import LoopsReply

T = TypeVar("T")


class FleetStart(msgspec.Struct, frozen=True):
    """The first event of a stream: the whole fleet, and the last ten minutes of it, a sample a second."""

    fleet: FleetReply
    history: list[Sample]


class FleetChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every later event: what is not in it is as it was.

    `instances` and `placements` have those that are new or changed; `gone` names instances that left. An instance is
    not told again because only its ages grew, nor are links of single instances told at all.
    """

    unix_s: float
    latest: Sample | None
    draining: bool | UnsetType = UNSET
    threshold_tokens: int | UnsetType = UNSET
    clusters: list[ClusterReply] | UnsetType = UNSET
    instances: list[InstanceReply] | UnsetType = UNSET
    gone: list[str] | UnsetType = UNSET
    paths: list[PathReply] | UnsetType = UNSET
    loops: LoopsReply | UnsetType | None = UNSET
    placements: list[PlacementReply] | UnsetType = UNSET
    hits: HitsReply | UnsetType = UNSET
    admission: AdmissionReply | UnsetType = UNSET


def change_of(before: FleetReply, after: FleetReply) -> FleetChange:
    """What has to be told to somebody who knows `before`."""
    return FleetChange(
        unix_s=after.unix_s,
        latest=after.latest,
        draining=_if_new(before.draining, after.draining),
        threshold_tokens=_if_new(before.threshold_tokens, after.threshold_tokens),
        clusters=_if_new(before.clusters, after.clusters),
        instances=_instances(before.instances, after.instances),
        gone=_gone(before.instances, after.instances),
        paths=_if_new(before.paths, after.paths),
        loops=_if_new(before.loops, after.loops),
        placements=_placements(before.placements, after.placements),
        hits=_if_new(before.hits, after.hits),
        admission=_if_new(before.admission, after.admission),
    )


def _if_new(before: T, after: T) -> T | UnsetType:
    return UNSET if before == after else after


def _instances(before: Sequence[InstanceReply], after: Sequence[InstanceReply]) -> list[InstanceReply] | UnsetType:
    known = {instance.name: _ageless(instance) for instance in before}
    return [instance for instance in after if known.get(instance.name) != _ageless(instance)] or UNSET


def _ageless(instance: InstanceReply) -> InstanceReply:
    return msgspec.structs.replace(instance, age_s=0.0, role_age_s=0.0)


def _gone(before: Sequence[InstanceReply], after: Sequence[InstanceReply]) -> list[str] | UnsetType:
    left = {instance.name for instance in after}
    return [instance.name for instance in before if instance.name not in left] or UNSET


def _placements(before: Sequence[PlacementReply], after: Sequence[PlacementReply]) -> list[PlacementReply] | UnsetType:
    known = {placement.number: placement for placement in before}
    return [placement for placement in after if known.get(placement.number) != placement] or UNSET
