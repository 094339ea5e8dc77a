"""The first frame of a connection: HELLO, and whether its sender is welcome."""

from collections.abc import Callable

from prfaas.core.errors import WireError
from prfaas.transport.frame_stream import Room
from prfaas.transport.framing import message_frame
from prfaas.transport.host import Host
from prfaas.transport.sessions import SenderSession
from prfaas.wire.header import VERSION, FrameHeader, Kind, payload_digest
from prfaas.wire.messages import Hello, Welcome, decode, encode


class Greeting:
    """Reads one HELLO; `greeted` is told of it, and raises to refuse."""

    def __init__(self, small: memoryview, greeted: Callable[[Hello], None]) -> None:
        self._small = small
        self._greeted = greeted

    def begin(self, header: FrameHeader) -> Room:
        if header.kind is not Kind.HELLO or header.wire_bytes > len(self._small):
            raise WireError(f"a connection begins with HELLO, not {header.kind.name} of {header.wire_bytes} bytes")
        return [self._small[: header.wire_bytes]], None

    def complete(self, header: FrameHeader) -> None:
        payload = self._small[: header.wire_bytes]
        if payload_digest([payload]) != header.digest:
            raise WireError("the HELLO is corrupt")
        self._greeted(decode(payload, Hello))


def check_version(hello: Hello) -> None:
    """Raises WireError if we have no version in common."""
    if VERSION not in hello.versions:
        raise WireError(
            f"{hello.instance_id} speaks wire versions {hello.versions}, this process {VERSION}; upgrade the older"
        )


def welcome_frame(host: Host, session: SenderSession, frame_bytes: int, max_streams: int) -> bytes:
    """The answer to a sender that is welcome."""
    welcome = Welcome(
        version=VERSION,
        instance_id=host.instance_id,
        cluster=host.cluster,
        epoch=host.epoch,
        max_frame_bytes=frame_bytes,
        credit_bytes=session.credit_bytes,
        max_streams=max_streams,
    )
    return message_frame(Kind.WELCOME, encode(welcome))
