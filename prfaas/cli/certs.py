"""`prfaas certs`: certificates for a fleet from an authority of its own, and how long those in use last."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prfaas.cli.authority import Authority, write_private
from prfaas.cli.build_credentials import ROUTER_NAME
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig, SecuritySection
from prfaas.control.certificate_files import files_of, read_certificates
from prfaas.core.errors import ConfigError

DOMAIN = "prfaas.internal"
AUTHORITY_DAYS = 3650
CA, CA_KEY = "ca.pem", "ca-key.pem"
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Process:
    """One that needs a certificate."""

    name: str
    cluster: str

    @property
    def dns_name(self) -> str:
        return f"{self.name}.{self.cluster}.{DOMAIN}"

    @classmethod
    def parse(cls, text: str) -> "Process":
        """`NAME.CLUSTER`. Raises ConfigError."""
        name, dot, cluster = text.partition(".")
        sane = all(part and part.replace("-", "").isalnum() and part.isascii() for part in (name, cluster))
        if not dot or not sane:
            raise ConfigError(f"--name {text!r} is not NAME.CLUSTER, e.g. --name west-decode-7.west")
        return cls(name, cluster)


@dataclass(frozen=True, slots=True)
class Request:
    """What certificates are to be made."""

    processes: Sequence[Process]
    fleet_name: str
    folder: Path
    """Where relative paths of the fleet file start."""


def requested(config: Path | None, names: Sequence[str]) -> Request:
    """For `names`, each NAME.CLUSTER, or else for all processes of the fleet file. Raises ConfigError."""
    named = [Process.parse(name) for name in names]
    if config is None:
        return Request(named, SecuritySection().fleet_name, Path.cwd())
    # The file may have no such section yet, or name certificates that are about to be made.
    fleet = load(config, ["security.mode=plain"])
    assert fleet.security
    return Request(named or processes_of(fleet), fleet.security.fleet_name, config.resolve().parent)


def processes_of(config: FleetConfig) -> list[Process]:
    """The router, and every instance that the file lists."""
    instances = [Process(i.name, c.name) for c in config.clusters for i in c.instances]
    return [Process(ROUTER_NAME, config.router_cluster), *instances]


def make(out: Path, request: Request, days: int, *, force: bool, console: Console) -> None:
    """Writes the authority, if `out` has none yet, and a certificate and key for each process. Raises ConfigError."""
    targets = {process: (out / f"{process.name}.pem", out / f"{process.name}-key.pem") for process in request.processes}
    there = [str(path) for pair in targets.values() for path in pair if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{', '.join(there)}: already there; replace certificates with --force, or choose another --out"
        )
    now = datetime.now(UTC)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, is_new = _authority(out, now, days)
        table = Table("certificate", "DNS name", "expires", title=f"certificates in {out}")
        table.columns[1].overflow = "fold"
        table.add_row(CA, "", f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}")
        for process, (cert, key) in targets.items():
            cert_pem, key_pem = authority.issue([process.dns_name, request.fleet_name], now, days)
            write_private(key, key_pem)
            write_private(cert, cert_pem, PUBLIC)
            expires = datetime.fromtimestamp(now.timestamp() + days * 86400, UTC)
            table.add_row(cert.name, process.dns_name, f"{expires:%Y-%m-%d}")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}; choose another --out") from error
    console.print(table)
    console.print(
        f"Keys lie beside them as NAME-key.pem. The authority {'is new' if is_new else 'was there already'}. "
        f"Whoever has {CA_KEY} can join the fleet: keep it off the machines that serve.",
        soft_wrap=True,
    )
    console.print(_section(out, request), highlight=False, soft_wrap=True)


def check(config: FleetConfig, console: Console) -> bool:
    """Shows how long the files of all processes last; False if one of them cannot be used. Raises ConfigError."""
    section = config.security
    if section is None or section.mode == "plain":
        raise ConfigError(
            "security.mode is plain: this fleet has no certificates; docs/security.md tells how to make some"
        )
    table = Table("process", "certificate", "expires", "authority expires", title="certificates of the fleet")
    table.columns[1].overflow = "fold"
    rows = [_state(process, section) for process in processes_of(config)]
    for process, cert, *expiries in (row for row, _ in rows):
        table.add_row(process, cert, *expiries)
    console.print(table)
    for _, fault in rows:
        if fault:
            console.print(fault, style="red", highlight=False, soft_wrap=True)
    return not any(fault for _, fault in rows)


def _state(process: Process, section: SecuritySection) -> tuple[Sequence[str], str]:
    files = files_of(section, process.name, process.cluster)
    try:
        found = read_certificates(files, section.fleet_name, time.time())
    except ConfigError as error:
        return (process.name, str(files.cert), "cannot be used", ""), f"{process.name}: {error}"
    days = (f"{datetime.fromtimestamp(s, UTC):%Y-%m-%d}" for s in (found.cert_expiry_s, found.ca_expiry_s))
    return (process.name, str(files.cert), *days), ""


def _authority(out: Path, now: datetime, days: int) -> tuple[Authority, bool]:
    """The folder's, or a new one; True if it is new."""
    cert, key = out / CA, out / CA_KEY
    if cert.exists() or key.exists():
        found = Authority.read(cert, key)
        lasts = found.certificate.not_valid_after_utc.timestamp() - now.timestamp()
        if lasts < days * 86400:
            raise ConfigError(
                f"{cert} lasts for {int(lasts // 86400)} days only; choose fewer --days, or another --out with a new "
                "authority"
            )
        return found, False
    made = Authority.new(now, max(days, AUTHORITY_DAYS))
    cert_pem, key_pem = made.pems()
    write_private(key, key_pem)
    write_private(cert, cert_pem, PUBLIC)
    return made, True


def _section(out: Path, request: Request) -> str:
    where = os.path.relpath(out.resolve(), request.folder)
    lines: Iterable[str] = (
        "For the fleet file (each process fills in its own {name}):",
        "",
        "security:",
        "  mode: mtls",
        f"  ca: {where}/{CA}",
        f"  cert: {where}/{{name}}.pem",
        f"  key: {where}/{{name}}-key.pem",
        *([f"  fleet_name: {request.fleet_name}"] if request.fleet_name != SecuritySection().fleet_name else []),
    )
    return "\n".join(lines)
