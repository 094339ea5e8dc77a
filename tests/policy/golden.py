"""Recorded views and what is placed in them, so that no placement changes unnoticed.

`python -m tests.policy.golden` records anew: read the difference before you commit it.
"""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prfaas.core.ids import InstanceId
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams
from tests.policy.fleets import KINDS, SEATS, seat, way

FILE = Path(__file__).parent / "golden_placements.json"
CASES = 24
POLICIES = ("prfaas", "prfaas", "prfaas", "static_threshold", "oracle", "local_only", "all_remote", "isl_or_load")


def record() -> list[dict[str, Any]]:
    """Some of everything, drawn once."""
    rng = random.Random(38)
    cases = [_case(rng, number) for number in range(CASES)]
    return [{**case, "placement": told(case)} for case in cases]


def _case(rng: random.Random, number: int) -> dict[str, Any]:
    instances = []
    for name, cluster in SEATS.items():
        waiting = rng.choice((0, 0, 1, 3)) if name[0] != "d" else 0
        tokens = sum(rng.randrange(500, 60_000) for _ in range(waiting))
        load = {"waiting_tokens": tokens, "waiting_requests": waiting, "running_requests": rng.randrange(24)}
        instances.append({"name": name, "cluster": cluster, **load})
    pairs = [(a, b) for a in KINDS for b in KINDS if KINDS[a] != KINDS[b]]
    links = [
        {
            "source": source,
            "target": target,
            "bytes_per_s": rng.choice((1.25e8, 1.25e9, 12.5e9)),
            "queued_s": rng.choice((0.0, 0.0, 0.3, 2.0)),
            "utilisation": round(rng.random(), 3),
            "usd_per_gb": rng.choice((0.0, 0.0, 0.02)),
            "up": rng.random() < 0.9,
        }
        for source, target in pairs
    ]
    tokens = int(min(max(rng.lognormvariate(9.9, 1.0), 128), 131_072))
    cached = {name: rng.randrange(0, tokens, 64) for name in SEATS if rng.random() < 0.4}
    params = {
        "threshold_tokens": 19_456,
        "cache_transfers": number % 2 == 0,
        "codecs": ["raw", "exact"] if number % 3 else ["raw"],
    }
    request = {"prompt_tokens": tokens, "cached_tokens": cached}
    policy = POLICIES[number % len(POLICIES)]
    return {"policy": policy, "request": request, "params": params, "instances": instances, "links": links}


def told(case: dict[str, Any]) -> dict[str, Any]:
    """The case's placement, as it is today, in words and numbers."""
    instances = [seat(i["name"], i["cluster"], **_rest(i, "name", "cluster")) for i in case["instances"]]
    links = [way(link["source"], link["target"], **_rest(link, "source", "target")) for link in case["links"]]
    cached = {InstanceId(name): tokens for name, tokens in case["request"]["cached_tokens"].items()}
    request = PlacementRequest(case["request"]["prompt_tokens"], cached)
    params = PolicyParams(**{**case["params"], "codecs": frozenset(case["params"]["codecs"])})
    return _told(place(request, ClusterView.of(instances, links), params, case["policy"]))


def _told(placement: Placement) -> dict[str, Any]:
    moved, expected = placement.cache_transfer, placement.expected
    return {
        "decode": placement.decode.instance_id,
        "prefill": placement.prefill.instance_id if placement.prefill else None,
        "uncached_tokens": placement.uncached_tokens,
        "reason": placement.reason,
        "moved": {"source": moved.source.instance_id, "tokens": moved.tokens} if moved else None,
        "codec": placement.codec,
        "expected": asdict(expected) if expected else None,
    }


def _rest(facts: dict[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in known}


if __name__ == "__main__":
    FILE.write_text("[\n" + ",\n".join(json.dumps(case) for case in record()) + "\n]\n", encoding="utf-8")
