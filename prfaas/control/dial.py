"""How one process reaches another: gRPC channels, and which links lead through a CONNECT proxy."""

import asyncio

import grpc

from prfaas.config.sections import FleetConfig
from prfaas.control.credentials import Credentials

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


RETIRE_S = 3600.0
"""So long the calls of a channel may go on after newer certificates came into use."""


class Dialer:
    """Opens channels from one cluster to any other, one per address, kept until `close` or newer certificates."""

    def __init__(self, config: FleetConfig, own_cluster: str, credentials: Credentials | None = None) -> None:
        plain = config.security is None or config.security.mode == "plain"
        assert plain == (credentials is None), "a fleet with certificates is never dialled without"
        self._config = config
        self._own_cluster = own_cluster
        self._credentials = credentials
        self._generation = 0
        self._channels: dict[tuple[str, str | None], grpc.aio.Channel] = {}
        self._retired: dict[grpc.aio.Channel, asyncio.Task[None]] = {}

    def proxy_to(self, cluster: str) -> str | None:
        """host:port of the CONNECT proxy on the way to `cluster`; None for a direct way."""
        if cluster == self._own_cluster:
            return None
        link = self._config.link(self._own_cluster, cluster)
        return link.dial_through if link else None

    def channel(self, address: str, cluster: str) -> grpc.aio.Channel:
        """The channel to `address` in `cluster`; gRPC itself reconnects it.

        It is to be asked for at each call: when there are newer certificates another channel takes its place, since
        a connection is opened with those that its channel was made with.
        """
        self._retire_older()
        proxy = self.proxy_to(cluster)
        if (address, proxy) not in self._channels:
            # Without a proxy of ours, one from the environment must not slip between two instances.
            way: list[tuple[str, str | int]] = (
                [("grpc.http_proxy", f"http://{proxy}")] if proxy else [("grpc.enable_http_proxy", 0)]
            )
            self._channels[address, proxy] = self._open(address, [*_OPTIONS, *way])
        return self._channels[address, proxy]

    async def forget(self, address: str) -> None:
        """Closes the channel to an instance that is gone."""
        for key in [key for key in self._channels if key[0] == address]:
            await self._channels.pop(key).close()

    async def close(self) -> None:
        for address, _ in list(self._channels):
            await self.forget(address)
        for channel, retiring in list(self._retired.items()):
            retiring.cancel()
            await channel.close()

    def _open(self, address: str, options: list[tuple[str, str | int]]) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=options)
        # All processes carry this name, whatever address they are reached by.
        name = ("grpc.ssl_target_name_override", self._credentials.fleet_name)
        return grpc.aio.secure_channel(address, self._credentials.grpc_channel(), options=[*options, name])

    def _retire_older(self) -> None:
        if self._credentials is None or self._credentials.generation == self._generation:
            return
        self._generation = self._credentials.generation
        for channel in self._channels.values():
            retiring = asyncio.create_task(channel.close(RETIRE_S))
            self._retired[channel] = retiring
            retiring.add_done_callback(lambda _, channel=channel: self._retired.pop(channel))  # type: ignore[misc]
        self._channels.clear()
