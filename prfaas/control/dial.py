"""How one process reaches another: gRPC channels, and which links lead through a CONNECT proxy."""

import grpc

from prfaas.config.sections import FleetConfig

MAX_MESSAGE_BYTES = 64 << 20
"""A 1M-token prompt is at most 5 MB as packed varints; results are far smaller."""

_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

SERVER_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Without these two a server ends idle connections of clients that ping it ("too many pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A server that only waits would otherwise never learn that its client is gone.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Two servers on one port would share its connections silently; a taken port must be an error.
    ("grpc.so_reuseport", 0),
]


class Dialer:
    """Opens channels from one cluster to any other, one per address, kept until `close`."""

    def __init__(self, config: FleetConfig, own_cluster: str) -> None:
        self._config = config
        self._own_cluster = own_cluster
        self._channels: dict[tuple[str, str | None], grpc.aio.Channel] = {}

    def proxy_to(self, cluster: str) -> str | None:
        """host:port of the CONNECT proxy on the way to `cluster`; None for a direct way."""
        if cluster == self._own_cluster:
            return None
        link = self._config.link(self._own_cluster, cluster)
        return link.dial_through if link else None

    def channel(self, address: str, cluster: str) -> grpc.aio.Channel:
        """The channel to `address` in `cluster`; gRPC itself reconnects it."""
        proxy = self.proxy_to(cluster)
        if (address, proxy) not in self._channels:
            # Without a proxy of ours, one from the environment must not slip between two instances.
            way: list[tuple[str, str | int]] = (
                [("grpc.http_proxy", f"http://{proxy}")] if proxy else [("grpc.enable_http_proxy", 0)]
            )
            self._channels[address, proxy] = grpc.aio.insecure_channel(address, options=[*_OPTIONS, *way])
        return self._channels[address, proxy]

    async def forget(self, address: str) -> None:
        """Closes the channel to an instance that is gone."""
        for key in [key for key in self._channels if key[0] == address]:
            await self._channels.pop(key).close()

    async def close(self) -> None:
        for address, _ in list(self._channels):
            await self.forget(address)
