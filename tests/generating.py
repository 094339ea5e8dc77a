"""One request to an instance past every router, on a stream of its own."""

from collections.abc import AsyncIterator
from typing import Any

from prfaas.control.v1 import fleet_pb2 as pb


class Generating:
    """Begins at once. Iterate for events; each token is one."""

    def __init__(self, stub: Any, message: pb.GenerateRequest) -> None:
        command = pb.AttendCommand(call=1, generate=message)
        self._stream = stub.Attend(_only(pb.AttendCommands(commands=[command])))

    async def __aiter__(self) -> AsyncIterator[pb.GenerateEvent]:
        async for said in self._stream:
            assert {each.call for each in (*said.tokens, *said.events)} == {1}
            for tokens in said.tokens:
                yield pb.GenerateEvent(tokens=pb.Tokens(token_ids=tokens.token_ids))
            for other in said.events:
                yield other.event


async def _only(message: pb.AttendCommands) -> AsyncIterator[pb.AttendCommands]:
    yield message
