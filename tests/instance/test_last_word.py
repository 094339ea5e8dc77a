"""The last token of an answer and its end are told in one breath, so that no router has the one without the other."""

import asyncio
import threading

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import PrfaasError
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason
from tests.eventually import eventually_async
from tests.instance.pair import running


class Breaths:
    """Notes what is told in one turn of the event loop; what is gathered in one leaves in one message."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self._now: list[str] = []

    def token(self, token_id: int, logprobs: TokenLogprobs | None) -> None:  # noqa: ARG002
        self._tell("token")

    def finished(self, reason: FinishReason, account: pb.Account) -> None:
        assert account.decode_instance == "near"
        self._tell(reason.value)

    def failed(self, error: PrfaasError) -> None:
        raise error

    def _tell(self, what: str) -> None:
        if not self._now:
            asyncio.get_running_loop().call_soon(self._end)
        self._now.append(what)

    def _end(self) -> None:
        self.told.append(self._now)
        self._now = []


async def test_the_last_token_comes_with_the_end() -> None:
    async with running() as pair:
        second = pair.near.engine.plan.before_second_token = threading.Event()
        breaths = Breaths()
        answering = asyncio.create_task(pair.near.decode.generate(pair.request(1, 2, 3), breaths))
        await eventually_async(lambda: bool(breaths.told))
        second.set()
        await answering
        await asyncio.sleep(0)
        assert breaths.told == [["token"], ["token", "length"]]
