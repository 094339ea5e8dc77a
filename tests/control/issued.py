"""Certificates for tests: an authority, what it issued as files, and the credentials of processes that have them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prfaas.cli.authority import Authority, write_private
from prfaas.control.certificate_files import CertificateFiles
from prfaas.control.credentials import Credentials, Note
from prfaas.control.peer_names import PeerNames

FLEET = "fleet.prfaas.internal"
NOW = datetime.now(UTC)
RELOAD_S = 10.0
EVERY_NAME = ("*",)


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Party:
    """A process with its files; `notes` is what its credentials told."""

    files: CertificateFiles
    authority: Authority
    fleet_name: str = FLEET
    allowed: tuple[str, ...] = EVERY_NAME
    unix_time: Callable[[], float] = NOW.timestamp
    clock: Clock = field(default_factory=Clock)
    notes: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = PeerNames(self.fleet_name, self.allowed)
        self.credentials = Credentials(self.files, names, RELOAD_S, self.clock, self.unix_time, self.notes.append)

    def later(self) -> None:
        """The next look at the files is due."""
        self.clock.now_s += RELOAD_S

    def renew(self, days: int = 7) -> None:
        names = ["renewed.west.prfaas.internal", self.fleet_name]
        cert, key = self.authority.issue(names, NOW, days)
        write_private(self.files.key, key)
        write_private(self.files.cert, cert)


def issue(
    folder: Path,
    authority: Authority,
    name: str = "a.west.prfaas.internal",
    *,
    fleet_name: str = FLEET,
    start: datetime = NOW,
    days: int = 1,
) -> CertificateFiles:
    """Files of one process under a folder of its own in `folder`."""
    home = folder / f"{len(list(folder.iterdir()))}"
    home.mkdir()
    files = CertificateFiles(home / "ca.pem", home / "cert.pem", home / "key.pem")
    cert, key = authority.issue([name, fleet_name], start, days)
    for path, content in ((files.ca, authority.pems()[0]), (files.cert, cert), (files.key, key)):
        write_private(path, content)
    return files


def party(folder: Path, authority: Authority, allowed: tuple[str, ...] = EVERY_NAME) -> Party:
    """One for whom all is as it should be."""
    return Party(issue(folder, authority), authority, allowed=allowed)


def expired(folder: Path, authority: Authority) -> Party:
    """One who has not noticed yet."""
    then = NOW - timedelta(days=30)
    return Party(issue(folder, authority, start=then), authority, unix_time=then.timestamp)


def not_yet_valid(folder: Path, authority: Authority) -> Party:
    """One whose clock is a month ahead."""
    then = NOW + timedelta(days=30)
    return Party(issue(folder, authority, start=then, days=1), authority, unix_time=then.timestamp)


def new_authority() -> Authority:
    """Valid for all of the above."""
    return Authority.new(NOW - timedelta(days=60), 365)
