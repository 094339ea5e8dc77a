"""A deployment as a fleet file for processes of this machine. Starts nothing."""

import socket
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fleet.scales import Scales
from benchmarks.fleet.studies import Study
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig
from prfaas.planner.simulate.opening import Opening, opening
from prfaas.planner.simulate.running import step_running
from prfaas.planner.simulate.seat import Seat
from prfaas.policy.profile import Profile

MODEL_NAME = "case-study"
NEVER_REFUSED = 1e6
"""The simulator, too, takes everything in."""


def fleet_file(study: Study, scales: Scales, model: Path, path: Path) -> FleetConfig:
    """Writes it. Roles and threshold are those that the simulator begins with. `model` has the tokenizer."""
    begin = opening(study.deployment, study.policy)
    path.write_text(yaml.safe_dump(_raw(study, begin, scales, model)), encoding="utf-8")
    return load(path)


def _raw(study: Study, begin: Opening, scales: Scales, model: Path) -> dict[str, Any]:
    file, policy = study.deployment, study.deployment.policy
    lengths = file.workload.input
    longest = getattr(lengths, "max_tokens", 0) or getattr(lengths, "tokens", 0)
    return {
        "model": {
            "name": MODEL_NAME,
            "path": str(model),
            "max_context_tokens": longest + file.workload.output_tokens,
        },
        "router": {
            "http": "127.0.0.1:0",
            "control": free_address(),
            "threshold_tokens": begin.threshold_tokens,
            "heartbeat_interval_s": 1.0 / scales.time,
            "missed_heartbeats": 10,
            "first_token_deadline_s": 600.0,
        },
        "policy": {
            **policy.model_dump(),
            "name": study.policy,
            "margin_s": policy.margin_s / scales.time,
            "slo_ttft_s": file.slo.ttft_s / scales.time,
            "slo_patience": NEVER_REFUSED,
        },
        "loops": {
            "retune_s": file.loops.retune_s / scales.time,
            "allocate_s": file.loops.allocate_s / scales.time,
            "convert": False,
        },
        "security": {"mode": "plain"},
        "clusters": [_cluster(study, begin, cluster.name, scales) for cluster in file.clusters],
        "links": [_link(study, i, scales) for i in range(len(file.links))],
    }


def _cluster(study: Study, begin: Opening, name: str, scales: Scales) -> dict[str, Any]:
    section = next(cluster for cluster in study.deployment.clusters if cluster.name == name)
    return {
        "name": name,
        "kind": section.kind,
        "profile": str(section.profile),
        "instances": [
            {"name": seat.instance_id, "role": seat.role, "engine": _engine(study, seat, profile, section, scales)}
            for seat, profile in begin.seats
            if seat.cluster == name
        ],
    }


def _engine(study: Study, seat: Seat, profile: Profile, section: Any, scales: Scales) -> dict[str, Any]:
    planned = study.deployment.engine
    return {
        "page_tokens": planned.page_tokens,
        "step_tokens": planned.step_tokens,
        "max_running_requests": step_running(planned, profile, seat.role),
        "decode_slowdown": planned.decode_slowdown,
        "prefix_cache": planned.prefix_cache.model_dump(exclude={"disk"}),
        "emulated": {"profile": str(section.profile), "time_scale": scales.time, "kv_scale": scales.kv},
    }


def _link(study: Study, number: int, scales: Scales) -> dict[str, Any]:
    link = study.deployment.links[number]
    return {
        "between": list(link.between),
        "gbit_s": link.gbit_s * scales.link,
        "rtt_ms": link.rtt_ms / scales.time,
        "usd_per_gb": link.usd_per_gb,
        "relay": {"listen": free_address()},
    }


def free_address() -> str:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"
