"""`prfaas certs`: what it makes is what a fleet needs, and nothing is replaced by mistake."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from prfaas.cli.build_credentials import build_credentials
from prfaas.cli.main import app
from prfaas.config.load import load
from prfaas.control.certificate_files import files_of, read_certificates
from prfaas.telemetry.metrics import InstanceMetrics

FLEET = """
model: {name: m, path: weights}
clusters:
  - {name: east, kind: prfaas, instances: [{name: p0, role: prefill}]}
  - {name: west, kind: pd, instances: [{name: d0, role: decode}]}
"""
RUN = CliRunner(env={"COLUMNS": "300"})


def now_s() -> float:
    """A function, since minutes may pass between the collection of tests and their run."""
    return datetime.now(UTC).timestamp()


def certs(*arguments: str | Path, fails: bool = False) -> str:
    """What the command says."""
    done = RUN.invoke(app, ["certs", *map(str, arguments)])
    assert done.exit_code == (2 if fails else 0), done.output
    return done.output


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet file that has no security section yet."""
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def pasted(fleet: Path, said: str) -> Path:
    """`fleet` with the section that was printed."""
    section = said[said.index("security:") :]
    fleet.write_text(FLEET + section)
    return fleet


def test_a_fleet_gets_what_it_needs(fleet: Path, tmp_path: Path) -> None:
    said = certs("--out", tmp_path / "made", "--config", fleet, "--days", "30")
    config = load(pasted(fleet, said))
    assert config.security is not None
    for name, cluster in (("router", "west"), ("p0", "east"), ("d0", "west")):
        assert f"{name}.{cluster}.prfaas.internal" in said
        files = files_of(config.security, name, cluster)
        found = read_certificates(files, config.security.fleet_name, now_s() + 60)
        assert 29 < (found.cert_expiry_s - now_s()) / 86400 < 31
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "made" / "ca-key.pem").stat().st_mode) == 0o600
    assert "d0" in certs("--check", "--config", fleet)


def test_a_process_loads_them_and_tells_when_they_expire(fleet: Path, tmp_path: Path) -> None:
    config = load(pasted(fleet, certs("--out", tmp_path / "made", "--config", fleet)))
    metrics = InstanceMetrics(CollectorRegistry())
    credentials = build_credentials(config, "d0", "west", metrics.security)
    assert credentials is not None
    name = "prfaas_certificate_expiry_timestamp_seconds"
    expiry = metrics.registry.get_sample_value(name, {"file": "cert"})
    assert expiry == credentials.certificates().cert_expiry_s
    credentials.count_refused("data")
    assert metrics.registry.get_sample_value("prfaas_peers_refused_total", {"plane": "data"}) == 1
    plain = load(fleet, ["security.mode=plain"])
    assert build_credentials(plain, "d0", "west", metrics.security) is None


def test_nothing_is_replaced_without_force(fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    certs("--out", out, "--config", fleet)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "already there; replace certificates with --force" in certs("--out", out, "--config", fleet, fails=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    certs("--out", out, "--config", fleet, "--force")
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca-key.pem"}


def test_a_newcomer_is_issued_one_by_the_same_authority(fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    config = load(pasted(fleet, certs("--out", out, "--config", fleet)))
    assert "was there already" in certs("--out", out, "--name", "d7.west")
    assert config.security is not None
    read_certificates(files_of(config.security, "d7", "west"), config.security.fleet_name, now_s() + 60)


def test_the_files_own_fleet_name_is_kept(fleet: Path, tmp_path: Path) -> None:
    fleet.write_text(FLEET + "security: {mode: plain, fleet_name: other.internal}")
    said = certs("--out", tmp_path / "made", "--config", fleet)
    assert yaml.safe_load(said[said.index("security:") :])["security"]["fleet_name"] == "other.internal"
    security = load(pasted(fleet, said)).security
    assert security is not None
    read_certificates(files_of(security, "d0", "west"), "other.internal", now_s() + 60)


def test_check_names_what_cannot_be_used(fleet: Path, tmp_path: Path) -> None:
    pasted(fleet, certs("--out", tmp_path / "made", "--config", fleet))
    (tmp_path / "made" / "d0-key.pem").write_bytes((tmp_path / "made" / "p0-key.pem").read_bytes())
    said = certs("--check", "--config", fleet, fails=True)
    assert "d0: security.key:" in said
    assert "is not the key of" in said
    fleet.write_text(FLEET + "security: {mode: plain}")
    assert "this fleet has no certificates" in certs("--check", "--config", fleet, fails=True)


@pytest.mark.parametrize("name", ["d7", "d7.", ".west", "../d7.west", "d 7.west", "d7.we/st", "d7.west.more"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    assert "is not NAME.CLUSTER" in certs("--out", tmp_path / "made", "--name", name, fails=True)
    assert not (tmp_path / "made").exists()


def test_an_authority_that_does_not_last_or_is_none(tmp_path: Path) -> None:
    out = tmp_path / "made"
    certs("--out", out, "--name", "d7.west")
    assert "choose fewer --days" in certs("--out", out, "--name", "d8.west", "--days", "5000", fails=True)
    (out / "ca-key.pem").write_text("no key")
    assert "no authority that can be used" in certs("--out", out, "--name", "d8.west", fails=True)
    assert "give --config FILE" in certs(fails=True)
