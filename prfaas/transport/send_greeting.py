"""The first exchange of a data connection, as the sender has it: HELLO, and WELCOME or a refusal."""

import select
from collections.abc import Iterator

from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError, PeerRefusedError, WireError, from_code
from prfaas.transport.channel import Channel
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.frame_writer import FrameWriter
from prfaas.transport.framing import message_header
from prfaas.wire import messages
from prfaas.wire.header import VERSION, FrameHeader, Kind


def greet(
    channel: Channel, reader: FrameReader, hello: messages.Hello, timeout_s: float, clock: Clock
) -> messages.Welcome:
    """Raises PeerRefusedError or what the receiver refuses with, WireError, PeerLostError or OSError."""
    writer = FrameWriter()
    payload = messages.encode(hello)
    writer.start(message_header(Kind.HELLO, payload), [memoryview(payload)])
    poller = select.poll()
    poller.register(channel.fileno(), select.POLLIN)
    deadline_s = clock() + timeout_s
    while (left_s := deadline_s - clock()) > 0:
        writer.send(channel)
        if (welcome := _welcome(reader.read(channel))) is not None:
            return welcome
        blocked = writer.busy
        poller.modify(channel.fileno(), select.POLLIN | (select.POLLOUT if blocked else 0))
        poller.poll(left_s * 1000)
    raise PeerLostError(f"{channel.peer} did not answer within {timeout_s:g} s")


def _welcome(answers: Iterator[tuple[FrameHeader, bytes]]) -> messages.Welcome | None:
    for header, payload in answers:
        if header.kind is Kind.REJECTED:
            rejected = messages.decode(payload, messages.Rejected)
            raise from_code(rejected.code, rejected.message)
        if header.kind is not Kind.WELCOME:
            raise WireError(f"the answer to HELLO is {header.kind.name}")
        welcome = messages.decode(payload, messages.Welcome)
        if welcome.version != VERSION:
            raise PeerRefusedError(f"the receiver chose wire version {welcome.version}, which was not offered")
        return welcome
    return None
