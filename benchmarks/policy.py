"""How long a placement takes in a fleet of a thousand instances, what keeping the view of it costs, and how many
requests the simulator, which places them so, gets through in a second."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.report import Column, Part, progress, show_parts
from benchmarks.simulated_requests import simulated_requests
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.counted_view import CountedView
from prfaas.policy.matches import longest
from prfaas.policy.place import POLICIES, place
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import (
    ClusterKind,
    ClusterView,
    InstanceView,
    LinkView,
    PlacementRequest,
    PolicyParams,
    Role,
)

PD_CLUSTERS, PD_PREFILLS, PD_DECODES = 10, 30, 30
PRFAAS_CLUSTERS, PRFAAS_PREFILLS = 10, 40
FEW_MATCHES = 40
MOST = {"place_us_p50": 50.0, "place_us_p99": 200.0}
"""What the project asks of itself, with few matches and with matches on all..."""
LEAST = {"simulated_req_s": 5_000.0, "simulated_req_s_step": 150.0}
"""...and in a wall second, on the conversation trace."""
MIB = 1 << 20
KV_BYTES, STATE_BYTES = 16.5 * MIB / 1024, 174.0 * MIB
MU, SIGMA, MIN_TOKENS, MAX_TOKENS = 9.9, 1.0, 128, 131_072
"""Lengths of prompts (PrfaaS paper, s4)."""
PARAMS = PolicyParams(threshold_tokens=19_456, codecs=frozenset({"raw", "exact"}))

COLUMNS = (
    Column("policy", "policy"),
    Column("instances with\na prefix", "matches", ",d"),
    Column("p50, µs", "p50_us", ".1f"),
    Column("p99, µs", "p99_us", ".1f"),
    Column("worst, µs", "worst_us", ".0f"),
    Column("remote", "remote", ".0%"),
)
UPKEEP_COLUMNS = (
    Column("keeping the view", "what"),
    Column("p50, µs", "p50_us", ".1f"),
    Column("p99, µs", "p99_us", ".1f"),
)
SIMULATED_COLUMNS = (
    Column("simulator", "fidelity"),
    Column("workload", "workload"),
    Column("requests", "requests", ",d"),
    Column("instances", "instances"),
    Column("requests\na second", "simulated_req_s", ",.0f"),
    Column("a CPU\nsecond", "cpu_req_s", ",.0f"),
    Column("cached", "cached", ".0%"),
    Column("offloaded", "offloaded", ".0%"),
)


def main(
    calls: Annotated[int, typer.Option(min=100, help="Of each row.")] = 5000,
    trace: Annotated[
        Path | None,
        typer.Option(help="What is simulated; default: conversations made up by the seed, as in Mooncake's trace."),
    ] = None,
    simulated: Annotated[int, typer.Option(min=1, help="Requests, at fidelity fluid.")] = 12_000,
    simulated_step: Annotated[int, typer.Option(min=1, help="Requests, at fidelity step.")] = 1_000,
    seed: int = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the tables.")] = False,
) -> None:
    """Measure placements."""
    rng = random.Random(seed)
    view = fleet(rng)
    everybody = len(view.homes)
    rows = []
    for policy in POLICIES:
        for matches in (FEW_MATCHES, everybody):
            progress.print(f"{policy}, {matches} matches")
            rows.append(placements(policy, view, requests(rng, view, calls, matches)))
    upkeep = [*counting(view, rng, calls), gathering(rng, view, calls)]
    ours = [row for row in rows if row["policy"] == "prfaas"]
    progress.print("simulator")
    runs = simulated_requests(trace, {"fluid": simulated, "step": simulated_step}, seed)
    figures = {
        "place_us_p50": max(row["p50_us"] for row in ours),
        "place_us_p99": max(row["p99_us"] for row in ours),
        "simulated_req_s": runs[0]["simulated_req_s"],
        "simulated_req_s_step": runs[1]["simulated_req_s"],
        "rows": rows,
        "upkeep": upkeep,
        "simulated": runs,
    }
    slow = [name for name, most in MOST.items() if figures[name] > most]
    figures["targets_missed"] = slow + [name for name, least in LEAST.items() if figures[name] < least]
    facts = {"instances": everybody, "clusters": len(view.parts), "calls": calls, "missed": figures["targets_missed"]}
    parts = [
        Part("place()", COLUMNS, rows),
        Part("upkeep", UPKEEP_COLUMNS, upkeep),
        Part("simulator", SIMULATED_COLUMNS, runs),
    ]
    show_parts("policy", parts, figures, facts, json_output=json_output)


def fleet(rng: random.Random) -> ClusterView:
    """The case study of the paper, forty times as large, with loads as they come."""
    h200 = Profile(
        "8xH200",
        PrefillCurve(0.44, 3.9e-5, 1.3e-10, ((1024, 0.44), (8192, 0.72), (32768, 1.84), (131072, 7.40))),
        DecodeCurve(((1, 0.02), (20, 0.025)), max_batch=20),
        KV_BYTES, STATE_BYTES, 5e11, 8,
    )  # fmt: skip
    h20 = Profile(
        "8xH20",
        PrefillCurve(0.46554, 1.305201e-4, 2.87214e-10),
        DecodeCurve(((1, 0.02), (20, 0.025)), max_batch=20),
        KV_BYTES, STATE_BYTES, 5e11, 8,
    )  # fmt: skip
    instances = [
        *_instances(rng, PD_CLUSTERS, PD_PREFILLS, "pd", "prefill", h20),
        *_instances(rng, PD_CLUSTERS, PD_DECODES, "pd", "decode", h20),
        *_instances(rng, PRFAAS_CLUSTERS, PRFAAS_PREFILLS, "prfaas", "prefill", h200),
    ]
    names = [(f"prfaas{i}", f"pd{j}") for i in range(PRFAAS_CLUSTERS) for j in range(PD_CLUSTERS)]
    both_ways = [(ClusterName(a), ClusterName(b)) for a, b in (*names, *((b, a) for a, b in names))]
    return ClusterView.of(instances, [_link(rng, a, b) for a, b in both_ways])


def _instances(
    rng: random.Random, clusters: int, each: int, kind: ClusterKind, role: Role, profile: Profile
) -> Iterator[InstanceView]:
    for cluster in range(clusters):
        for number in range(each):
            waiting = rng.choice((0, 0, 1, 2, 4)) if role == "prefill" else 0
            yield InstanceView(
                InstanceId(f"{kind}{cluster}-{role}-{number}"),
                ClusterName(f"{kind}{cluster}"),
                kind,
                role,
                f"10.0.{cluster}.{number}:7000",
                waiting_tokens=sum(_length(rng) for _ in range(waiting)),
                waiting_requests=waiting,
                running_requests=rng.randrange(18) if role == "decode" else 1,
                max_running=20 if role == "decode" else 64,
                profile=profile,
            )


def _link(rng: random.Random, source: ClusterName, target: ClusterName) -> LinkView:
    rtt_s = rng.uniform(0.005, 0.08)
    used, queued_s = rng.uniform(0, 1), rng.choice((0.0, 0.0, 0.1, 0.6))
    rate = rng.choice((1.25e9, 1.25e10))
    return LinkView(source, target, rate, rtt_s, rtt_s, 0.0, int(queued_s * rate), queued_s, 0.5, used, 0.01)


def _length(rng: random.Random) -> int:
    return int(min(max(rng.lognormvariate(MU, SIGMA), MIN_TOKENS), MAX_TOKENS))


def requests(rng: random.Random, view: ClusterView, count: int, matches: int) -> list[PlacementRequest]:
    """Prompts of which `matches` instances hold a beginning, in whole pages of 64 tokens."""
    names = list(view.homes)
    made = []
    for _ in range(count):
        tokens = _length(rng)
        cached = {name: rng.randrange(0, tokens, 64) for name in rng.sample(names, matches)}
        made.append(PlacementRequest(tokens, cached, longest=longest(cached, view)))
    return made


def placements(policy: str, view: ClusterView, wanted: Sequence[PlacementRequest]) -> dict[str, Any]:
    """Whoever asks has just made the request, so its memory is near."""
    remote = sum(place(request, view, PARAMS, policy).remote for request in wanted) / len(wanted)
    gc.collect()
    gc.freeze()  # what the benchmark keeps is no work of a router's
    fresh = (replace(request, cached_tokens=dict(request.cached_tokens)) for request in wanted)
    took = _timed(lambda request: place(request, view, PARAMS, policy), fresh)
    gc.unfreeze()
    return {"policy": policy, "matches": len(wanted[0].cached_tokens), "remote": remote, **took}


def counting(view: ClusterView, rng: random.Random, count: int) -> list[dict[str, Any]]:
    """What the router does for a request beside placing it, and for a heartbeat."""
    counted = CountedView()
    counted.heard_all(view.instances, view.links.values())
    made = [place(request, view, PARAMS, "prfaas") for request in requests(rng, view, count, FEW_MATCHES)]
    rows = [{"what": "a placement counts as load", **_timed(counted.placed, made)}]
    rows.append({"what": "a heartbeat", **_timed(counted.heard, rng.choices(view.instances, k=count))})
    rows.append({"what": "a first token", **_timed(counted.first_token, range(count))})
    rows.append({"what": "an answer's end", **_timed(counted.ended, range(count))})
    return rows


def gathering(rng: random.Random, view: ClusterView, count: int) -> dict[str, Any]:
    """What the router does for a request that all instances hold a beginning of."""
    wanted = [request.cached_tokens for request in requests(rng, view, min(count, 500), len(view.homes))]
    return {"what": "the longest of a thousand matches", **_timed(lambda cached: longest(cached, view), wanted)}


def _timed(call: Callable[[Any], object], arguments: Iterable[Any]) -> dict[str, float]:
    took = []
    for argument in arguments:
        began = time.perf_counter_ns()
        call(argument)
        took.append((time.perf_counter_ns() - began) / 1000)
    cuts = statistics.quantiles(took, n=100)
    return {"p50_us": statistics.median(took), "p99_us": cuts[98], "worst_us": max(took)}


if __name__ == "__main__":
    typer.run(main)
