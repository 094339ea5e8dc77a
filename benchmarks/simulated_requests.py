"""How many requests the simulator gets through in a second, at both fidelities. Compares no policies."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.conversations import write_conversations
from prfaas.config.load_deployment import load_deployment
from prfaas.planner.simulate.outcome import Fidelity
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload

CASE_STUDY = Path(__file__).parents[1] / "configs" / "case-study.yaml"
SYNTHETIC = "conversations made up for it"


def simulated_requests(trace: Path | None, requests: Mapping[Fidelity, int], seed: int) -> list[dict[str, Any]]:
    """A row for each fidelity. Without a trace, one of the shape of Mooncake's conversation trace is made up.

    Raises ConfigError for a file that is no trace.
    """
    with TemporaryDirectory() as folder:
        path = trace
        if path is None:
            path = Path(folder) / "conversations.jsonl"
            write_conversations(path, max(requests.values()), seed)
        source = trace.name if trace else SYNTHETIC
        return [_timed(path, source, fidelity, number, seed) for fidelity, number in requests.items()]


def _timed(path: Path, source: str, fidelity: Fidelity, requests: int, seed: int) -> dict[str, Any]:
    chosen = json.dumps({"distribution": "trace", "path": str(path.absolute())})
    deployment = load_deployment(CASE_STUDY, [f"workload.input={chosen}"])
    workload = build_workload(deployment.workload, rate_req_s=0.0, seed=seed)
    began, began_cpu = time.perf_counter(), time.process_time()
    outcome = simulate(deployment, workload, "prfaas", requests=requests, seed=seed, fidelity=fidelity)
    took_cpu_s, took_s = time.process_time() - began_cpu, time.perf_counter() - began
    return {
        "fidelity": fidelity,
        "workload": source,
        "requests": outcome.finished,
        "instances": sum(cluster.instances for cluster in deployment.clusters),
        "simulated_req_s": outcome.finished / took_s,
        "cpu_req_s": outcome.finished / took_cpu_s,
        "cached": outcome.cached_fraction,
        "offloaded": outcome.offloaded_fraction,
    }
