"""A cluster's profile starts at the fleet file's folder, as all relative paths do."""

from pathlib import Path

from prfaas.config.load import load

FLEET = """
model: {path: model, name: m}
security: {mode: plain}
policy: {name: prfaas}
clusters:
  - {name: west, kind: pd, profile: profiles/h20.yaml}
  - {name: east, kind: prfaas}
"""


def test_relative_to_the_file(tmp_path: Path) -> None:
    (file := tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    config = load(file)
    assert [c.profile for c in config.clusters] == [(tmp_path / "profiles/h20.yaml").resolve(), None]
    assert config.policy.name == "prfaas"
