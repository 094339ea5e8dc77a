"""The fleet file that ships for emulated accelerators is the case study's deployment."""

from pathlib import Path

import pytest

from prfaas.config.load import load
from prfaas.config.load_deployment import load_deployment

CONFIGS = Path(__file__).parents[2] / "configs"


def test_it_is_the_planned_deployment_at_one_scale() -> None:
    fleet = load(CONFIGS / "emulated-case-study.yaml")
    planned = load_deployment(CONFIGS / "case-study.yaml")
    assert {(c.name, c.kind, c.profile, len(c.instances)) for c in fleet.clusters} == {
        (c.name, c.kind, c.profile, c.instances) for c in planned.clusters
    }
    emulated = [(c, (i.engine or fleet.engine).emulated) for c in fleet.clusters for i in c.instances]
    scales = {(e.time_scale, e.kv_scale) for _, e in emulated if e}
    assert all(e is not None and e.profile == c.profile for c, e in emulated)
    ((time_scale, kv_scale),) = scales
    assert fleet.links[0].gbit_s == pytest.approx(planned.links[0].gbit_s * time_scale * kv_scale)
    assert fleet.links[0].rtt_ms == planned.links[0].rtt_ms / time_scale
