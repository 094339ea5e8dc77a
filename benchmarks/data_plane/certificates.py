"""A fleet's authority and one certificate for both ends, made for one run of a benchmark."""

import time
from datetime import UTC, datetime
from pathlib import Path

from prfaas.cli.authority import Authority, write_private
from prfaas.config.sections import SecuritySection
from prfaas.control.certificate_files import CertificateFiles
from prfaas.control.credentials import Credentials
from prfaas.control.peer_names import PeerNames

_FLEET_NAME = str(SecuritySection.model_fields["fleet_name"].default)


def make(folder: Path) -> None:
    """Writes ca.pem, cert.pem and key.pem."""
    now = datetime.now(UTC)
    authority = Authority.new(now, days=1)
    cert, key = authority.issue([_FLEET_NAME, "benchmark"], now, days=1)
    for name, content in (("ca.pem", authority.pems()[0]), ("cert.pem", cert), ("key.pem", key)):
        write_private(folder / name, content)


def read(folder: Path) -> Credentials:
    files = CertificateFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    names = PeerNames(_FLEET_NAME, ("*",))
    return Credentials(files, names, 3600.0, time.monotonic, time.time, lambda _: None)
