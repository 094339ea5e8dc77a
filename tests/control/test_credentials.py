"""What a process shows and trusts: files that are refused by name, newer ones taken without a restart, names judged."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from prfaas.config.sections import SecuritySection
from prfaas.control.certificate_files import CertificateFiles, files_of, read_certificates
from prfaas.control.peer_names import PeerNames
from prfaas.core.errors import ConfigError
from tests.control.issued import FLEET, NOW, issue, new_authority, party


def refused(files: CertificateFiles, at: float = NOW.timestamp()) -> str:
    with pytest.raises(ConfigError) as caught:
        read_certificates(files, FLEET, at)
    return str(caught.value)


def encrypt(path: Path) -> None:
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


@pytest.mark.parametrize(
    ("spoil", "which", "said"),
    [
        (Path.unlink, "ca", "security.ca: {} cannot be read: No such file"),
        (Path.unlink, "cert", "security.cert: {} cannot be read: No such file"),
        (Path.unlink, "key", "security.key: {} cannot be read: No such file"),
        (lambda path: path.write_text("none"), "ca", "security.ca: {} is no PEM file of certificates"),
        (lambda path: path.write_text("none"), "cert", "security.cert: {} is no PEM file of certificates"),
        (lambda path: path.write_text("none"), "key", "security.key: {} is no PEM file of a private key"),
        (encrypt, "key", "security.key: {} is encrypted"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], which: str, said: str
) -> None:
    files = issue(tmp_path, new_authority())
    path = getattr(files, which)
    spoil(path)
    assert said.format(path) in refused(files)


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    authority = new_authority()
    one, two = issue(tmp_path, authority), issue(tmp_path, authority)
    assert "is not the key of" in refused(CertificateFiles(one.ca, one.cert, two.key))
    stranger = issue(tmp_path, new_authority())
    assert "was not issued by the authority" in refused(CertificateFiles(stranger.ca, one.cert, one.key))
    other_fleet = issue(tmp_path, authority, fleet_name="other.internal")
    assert f"does not carry the DNS name {FLEET}" in refused(other_fleet)


def test_a_certificate_out_of_its_time_is_refused_with_the_date(tmp_path: Path) -> None:
    files = issue(tmp_path, new_authority(), days=1)
    assert f"expired on {NOW + timedelta(days=1):%Y-%m-%d}" in refused(files, (NOW + timedelta(days=2)).timestamp())
    assert "is not valid before" in refused(files, (NOW - timedelta(days=2)).timestamp())


def test_an_authority_that_expired_is_refused_but_may_stand_beside_its_successor(tmp_path: Path) -> None:
    old, new = new_authority(), new_authority()
    files = issue(tmp_path, new)
    files.ca.write_bytes(old.pems()[0] + new.pems()[0])
    found = read_certificates(files, FLEET, NOW.timestamp())
    assert found.ca_expiry_s == new.certificate.not_valid_after_utc.timestamp()
    late = (NOW + timedelta(days=999)).timestamp()
    long_lived = issue(tmp_path, old, days=2000)
    assert f"security.ca: {long_lived.ca} expired" in refused(long_lived, late)


def test_paths_are_filled_in_for_each_process() -> None:
    section = SecuritySection(ca=Path("/c/ca.pem"), cert=Path("/c/{cluster}/{name}.pem"), key=Path("/k/{name}.pem"))
    assert files_of(section, "d0", "west") == CertificateFiles(
        Path("/c/ca.pem"), Path("/c/west/d0.pem"), Path("/k/d0.pem")
    )


def test_newer_files_are_used_once_a_look_is_due(tmp_path: Path) -> None:
    one = party(tmp_path, new_authority())
    before = one.credentials.certificates()
    one.renew()
    assert one.credentials.certificates() is before
    one.later()
    after = one.credentials.certificates()
    assert after.cert_expiry_s == before.cert_expiry_s + timedelta(days=6).total_seconds()
    assert after.server is not before.server
    assert (one.credentials.generation, one.notes) == (1, ["reloaded"])
    one.later()
    assert one.credentials.certificates() is after


def test_broken_newer_files_leave_the_old_ones_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = party(tmp_path, new_authority())
    before = one.credentials.certificates()
    good = one.files.key.read_bytes()
    one.files.key.write_text("half a ke")
    for _ in range(3):
        one.later()
        assert one.credentials.certificates() is before
    assert (one.credentials.generation, one.notes) == (0, ["reload_failed"])
    assert f"security.key: {one.files.key} is no PEM file" in caplog.text
    one.files.key.unlink()
    one.later()
    assert one.credentials.certificates() is before
    one.files.key.write_bytes(good)
    one.later()
    assert one.credentials.certificates() is not before
    assert one.notes == ["reload_failed", "reload_failed", "reloaded"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["d0.west.internal", "FLEET.internal"], None),
        (["D0.WEST.internal", "fleet.internal"], None),
        (["d0.west.internal"], "does not carry the fleet's name fleet.internal"),
        ([], "no other DNS name, does not carry"),
        (["fleet.internal"], "for no other DNS name, matches none of security.allowed_names (*.West.internal, router)"),
        (["d0.east.internal", "fleet.internal"], "for d0.east.internal, matches none"),
        (["d0.west.internal.evil", "fleet.internal"], "matches none"),
        (["d0.west.internal", "*.internal"], "does not carry"),
    ],
)
def test_names_are_judged(names: list[str], said: str | None) -> None:
    refusal = PeerNames("fleet.internal", ("*.West.internal", "router")).refusal(names)
    assert (refusal is None) == (said is None)
    assert (said or "") in (refusal or "")
