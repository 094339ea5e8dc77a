"""The three deployments of the PrfaaS paper's table 6, as deployment files. Runs nothing."""

from dataclasses import dataclass
from pathlib import Path

from prfaas.config.deployment import DeploymentFile, PlannedClusterSection
from prfaas.config.load_deployment import load_deployment
from prfaas.config.profile_file import load_profile
from prfaas.config.sections import PolicyName
from prfaas.planner.profile_text import profile_text

CASE_STUDY = Path(__file__).parents[2] / "configs" / "case-study.yaml"
PRFAAS, HOMOGENEOUS, NAIVE = "prfaas_pd", "homogeneous_pd", "naive_heterogeneous"


@dataclass(frozen=True, slots=True)
class Study:
    """One deployment, and how it places requests."""

    name: str
    deployment: DeploymentFile
    policy: PolicyName


def studies(folder: Path, output_scale: int) -> dict[str, Study]:
    """`folder` gets the profiles with slower decode steps (`Scales.output`). Times and bytes are the case study's."""
    file = load_deployment(CASE_STUDY)
    baseline = file.baseline
    assert baseline is not None, "the case study compares itself with something"
    slo = file.slo.model_copy(update={"tpot_ms": file.slo.tpot_ms * output_scale})
    workload = file.workload.model_copy(update={"output_tokens": file.workload.output_tokens // output_scale})
    clusters = tuple(
        c.model_copy(update={"profile": _slower_decode(c.profile, folder, output_scale)}) for c in file.clusters
    )
    file = file.model_copy(update={"slo": slo, "workload": workload, "clusters": clusters})
    home = next(c for c in clusters if c.kind == "pd")
    alone = PlannedClusterSection(name=home.name, kind="pd", profile=home.profile, instances=baseline.instances)
    found = (
        Study(PRFAAS, file, "prfaas"),
        Study(HOMOGENEOUS, file.model_copy(update={"clusters": (alone,), "links": ()}), "local_only"),
        Study(NAIVE, file, "all_remote"),
    )
    return {study.name: study for study in found}


def _slower_decode(profile: Path, folder: Path, times: int) -> Path:
    file = load_profile(profile)
    points = tuple(p.model_copy(update={"seconds": p.seconds * times}) for p in file.decode.points)
    decode = file.decode.model_copy(
        update={"points": points, "per_context_token_s": file.decode.per_context_token_s * times}
    )
    slower = folder / profile.name
    slower.write_text(profile_text(file.model_copy(update={"decode": decode})), encoding="utf-8")
    return slower
