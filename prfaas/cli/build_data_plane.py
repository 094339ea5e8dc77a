"""Puts one instance's KV data plane together: both directions, what is measured of links, and the codecs."""

import logging
import socket
import time
from dataclasses import dataclass

from prfaas.config.sections import CodecName, FleetConfig, TransportSection
from prfaas.control.credentials import Credentials
from prfaas.instance.identity import Identity
from prfaas.instance.kv_codec import FAMILIES, KvCodec
from prfaas.instance.kv_encoding import Encodings
from prfaas.policy.codec import Route
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox
from prfaas.transport.link_sampler import LinkSampler
from prfaas.transport.outbox import Outbox
from prfaas.transport.server import DataServer
from prfaas.wire.header import Digest, payload_digest
from prfaas_kernels.bytes_codec import BuildError, SpansDigest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataPlane:
    """Its running parts."""

    inbox: Inbox
    server: DataServer
    outbox: Outbox
    links: LinkSampler
    encodings: Encodings


def build_codec(metrics: InstanceMetrics) -> KvCodec | None:
    """Compiles the codecs on first use, which takes seconds. None without a compiler: nothing but raw is offered."""
    codec = None
    try:
        codec = KvCodec.open()
    except BuildError as error:
        log.warning("KV crosses raw only, since its codecs cannot be compiled here: %s", error)
    for name in FAMILIES:
        metrics.kv_codecs.labels(name).set(name == "raw" or codec is not None)
    return codec


def usable_codecs(config: TransportSection, codec: KvCodec | None) -> frozenset[CodecName]:
    """What tickets of this instance may offer."""
    allowed: frozenset[CodecName] = frozenset(config.codecs) if codec is not None else frozenset()
    return allowed | {"raw"}


def build_data_plane(
    config: FleetConfig,
    identity: Identity,
    listener: socket.socket,
    codec: KvCodec | None,
    credentials: Credentials | None,
    metrics: InstanceMetrics,
) -> DataPlane:
    """`listener` listens already; nothing runs before `start` is called on what is returned."""
    name, cluster = identity.instance_id, identity.cluster
    digest: Digest = SpansDigest.open() if codec is not None else payload_digest
    outbox = Outbox(Caller(name, cluster), config.transport, credentials, metrics, time.monotonic, digest)
    described = {
        (set(link.between) - {cluster}).pop(): link.gbit_s * 1e9 / 8 for link in config.links if cluster in link.between
    }
    links = LinkSampler(outbox, config.transport, metrics, time.monotonic, described)
    inbox = Inbox(time.monotonic)
    host = Host(name, cluster, identity.epoch)

    def route(to: str) -> Route:
        link = config.link(cluster, to)
        if link is None:
            # Within a cluster, where the processors are sooner the bottleneck than the network.
            return Route()
        return Route(links.rate_bytes_s(to) or link.gbit_s * 1e9 / 8, link.usd_per_gb)

    return DataPlane(
        inbox,
        DataServer(listener, inbox, host, config.transport, credentials, metrics, time.monotonic, digest),
        outbox,
        links,
        Encodings(codec, config.transport.codecs, route, time.monotonic),
    )
