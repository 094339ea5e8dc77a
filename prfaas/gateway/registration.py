"""What an instance may not say about itself: rules over one registration or heartbeat, without memory of others."""

import math
import re
from collections.abc import Mapping

import grpc

from prfaas.config.sections import checked_address, is_wildcard, split_address
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.policy.view import ClusterKind

MAX_WAITING_TOKENS = 2**40
"""No queue of prompts is longer; such a number is a bug or an overflow, and would steer every request away."""
MAX_REQUESTS = 2**20
"""Nor does any instance have more requests than that."""
MAX_BYTES_S = 1e13
MAX_SECONDS = 1e9
"""Of a round trip, a queue or an age: thirty years are none."""
MAX_TEXT_CHARACTERS = 1024
"""Of anything that an instance says of itself in words."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class RefusedError(Exception):
    """A registration or heartbeat that is not accepted; `status` is what the caller gets with the message."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_instance(info: pb.InstanceInfo, kinds: Mapping[str, ClusterKind]) -> None:
    """Raises RefusedError: INVALID_ARGUMENT for missing fields, FAILED_PRECONDITION for what the config rules out."""
    name = info.instance_id or "an instance without a name"
    _check_texts(info)
    missing = [
        field
        for field in ("instance_id", "cluster", "role", "epoch", "control_address", "model_fingerprint")
        if not getattr(info, field)
    ]
    if missing:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{name} registers without {', '.join(missing)}")
    if not _dialable(info.control_address):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} announces control address {info.control_address!r}, which nobody can dial; set advertise_host",
        )
    _check_kv_events(name, info)
    if info.cluster not in kinds:
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{name} says that it runs in cluster {info.cluster!r}, which the router's configuration lacks; "
            f"it has {', '.join(sorted(kinds))}",
        )
    if info.role == pb.ROLE_DECODE and kinds[info.cluster] == "prfaas":
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{name} wants to decode in {info.cluster!r}, a 'prfaas' cluster, which only prefills",
        )
    if info.role not in (pb.ROLE_PREFILL, pb.ROLE_DECODE):
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{name} announces the unknown role {info.role}")


def _check_texts(info: pb.InstanceInfo) -> None:
    """Names and texts stand in logs, in `GET /fleet` and on people's screens."""
    if info.instance_id and not _NAME.fullmatch(info.instance_id):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"an instance cannot be named {info.instance_id[:80]!a}: up to 63 of a-z, 0-9 and, inside, - may be used",
        )
    for said, value in info.ListFields():
        if isinstance(value, str) and not (len(value) <= MAX_TEXT_CHARACTERS and value.isprintable()):
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{info.instance_id} registers with {said.name} {value[:80]!a}, of {len(value)} characters; up to "
                f"{MAX_TEXT_CHARACTERS} that can be printed are taken",
            )


def _check_kv_events(name: str, info: pb.InstanceInfo) -> None:
    announced = [address for address in (info.kv_events_address, info.kv_replay_address) if address]
    if any(not _dialable(address) for address in announced):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} publishes KV events at {' and '.join(announced)}, which nobody can dial; set advertise_host",
        )
    if announced and not (info.kv_events_address and info.block_tokens):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} announces KV events without kv_events_address or block_tokens, which are needed to read them",
        )


def check_load(instance_id: str, load: pb.Load) -> None:
    """Raises RefusedError (INVALID_ARGUMENT) for loads that no instance can have."""
    wrong = []
    if load.pages_used > load.pages_total:
        wrong.append(f"{load.pages_used} of {load.pages_total} pages used")
    elif load.pages_cached > load.pages_total - load.pages_used:
        wrong.append(f"{load.pages_cached} pages cached besides {load.pages_used} used of {load.pages_total}")
    if load.waiting_tokens > MAX_WAITING_TOKENS:
        wrong.append(f"{load.waiting_tokens} tokens waiting")
    if max(load.waiting_requests, load.running_requests) > MAX_REQUESTS:
        wrong.append(f"{load.waiting_requests} requests waiting and {load.running_requests} running")
    if not (math.isfinite(load.role_age_s) and load.role_age_s >= 0):
        wrong.append(f"in its role for {load.role_age_s} s")
    if load.converting_to not in (pb.ROLE_UNSPECIFIED, pb.ROLE_PREFILL, pb.ROLE_DECODE):
        wrong.append(f"about to serve in the unknown role {load.converting_to}")
    if wrong:
        message = f"{instance_id} reports an impossible load: {', '.join(wrong)}"
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)


def link_fault(link: pb.LinkReport, kinds: Mapping[str, ClusterKind]) -> str | None:
    """Why a measurement cannot be used; None for one that can."""
    if link.cluster not in kinds:
        return f"it leads to cluster {link.cluster!r}, which the router's configuration lacks"
    numbers = (link.bytes_per_s, link.rtt_s, link.min_rtt_s, link.queued_s, link.age_s)
    sane = all(math.isfinite(number) and number >= 0 for number in numbers)
    sane = sane and link.bytes_per_s <= MAX_BYTES_S and max(numbers[1:]) <= MAX_SECONDS
    if not sane or not all(0 <= share <= 1 for share in (link.retransmitted, link.utilisation)):
        return f"its numbers are impossible: {str(link).split()}"
    return None


def _dialable(address: str) -> bool:
    try:
        host, port = split_address(checked_address(address))
    except ValueError:
        return False
    return port > 0 and not is_wildcard(host)
