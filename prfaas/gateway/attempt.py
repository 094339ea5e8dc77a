"""One placement of a request with the call to its decode instance. Knows neither the client nor other attempts."""

from collections.abc import Callable

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import CancelledError
from prfaas.core.ids import InstanceId
from prfaas.core.request import FinishReason, Request
from prfaas.gateway.calls import InstanceCalls
from prfaas.gateway.events import Event, Finished
from prfaas.gateway.generate_call import GenerateCall
from prfaas.policy.view import Placement


class Attempt:
    """Counts as load, and holds something at its instances, until `end`."""

    def __init__(
        self,
        request: Request,
        placement: Placement,
        call: GenerateCall,
        calls: InstanceCalls,
        first_token: Callable[[], None],
        uncount: Callable[[], None],
    ) -> None:
        """`first_token`: its prompt waits no more; `uncount`: it is no load any more."""
        self.placement = placement
        self.prompt_tokens = request.prompt_tokens
        """Of what was sent: the prompt, and what of the answer came from an earlier attempt."""
        self._first_token: Callable[[], None] | None = first_token
        self._call = call
        self._calls = calls
        self._uncount: Callable[[], None] | None = uncount
        self._ended = False

    @property
    def decode(self) -> InstanceId:
        return self.placement.decode.instance_id

    @property
    def instances(self) -> frozenset[InstanceId]:
        """All that compute for it."""
        prefill = self.placement.prefill
        return frozenset({self.decode} if prefill is None else {self.decode, prefill.instance_id})

    @property
    def ready(self) -> bool:
        """`read` would not wait."""
        return self._call.ready

    async def read(self) -> Event:
        """The next event. Raises what `GenerateCall.read` raises, and CancelledError where the instance gave up."""
        event = await self._call.read()
        if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
            raise CancelledError(f"{self.decode} cancelled the request")
        return event

    def note_token(self) -> None:
        """A token came."""
        if self._first_token is not None:
            self._first_token()
            self._first_token = None

    async def stop(self) -> pb.Account | None:
        """Ends it on the client's behalf; its account if that comes at once."""
        self._no_load()
        return await self._call.stop()

    def end(self) -> None:
        """Frees all that it holds anywhere; once is enough, more does no harm."""
        if self._ended:
            return
        self._ended = True
        self._no_load()
        self._call.end()
        self._calls.cancel_soon(self._call)

    def _no_load(self) -> None:
        if self._uncount is not None:
            self._uncount()
            self._uncount = None
