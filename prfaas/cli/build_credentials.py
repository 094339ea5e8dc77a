"""Loads the certificates of one process of a fleet."""

import logging
import time

from prfaas.config.sections import FleetConfig
from prfaas.control.certificate_files import files_of
from prfaas.control.credentials import Credentials
from prfaas.control.peer_names import PeerNames
from prfaas.telemetry.security_metrics import SecurityMetrics

ROUTER_NAME = "router"
"""What `{name}` stands for in a router's paths."""

log = logging.getLogger(__name__)


def build_credentials(config: FleetConfig, name: str, cluster: str, metrics: SecurityMetrics) -> Credentials | None:
    """None where the fleet file says plain. Raises ConfigError for files that cannot be used."""
    section = config.security
    if section is None or section.mode == "plain":
        log.info("security.mode is plain: what this process sends is neither encrypted nor authenticated")
        return None
    names = PeerNames(section.fleet_name, section.allowed_names)
    files = files_of(section, name, cluster)
    credentials = Credentials(files, names, section.reload_s, time.monotonic, time.time, metrics.note)
    metrics.follow(
        lambda: credentials.certificates().cert_expiry_s,
        lambda: credentials.certificates().ca_expiry_s,
    )
    return credentials
