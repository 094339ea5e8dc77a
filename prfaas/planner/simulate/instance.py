"""What the simulation asks of an instance, whichever fidelity it is played at. Knows neither links nor policies."""

from typing import NamedTuple, Protocol

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.job import Job
from prfaas.policy.profile import Profile
from prfaas.policy.view import ClusterKind, Role


class Load(NamedTuple):
    """What a heartbeat tells."""

    waiting_tokens: int
    waiting_requests: int
    running_requests: int
    pages_free: int


class Listener(Protocol):
    """Hears what instances do with jobs, at the simulated moment at which it happens."""

    def reserved(self, job: Job) -> None:
        """The decode instance has pages for an imported prompt; `job.held_tokens` is set."""

    def prefill_started(self, job: Job, expected_s: float) -> None:
        """Its first chunk begins; `expected_s` from now it would end if nothing else came. `cached_tokens` is set."""

    def prefilled(self, job: Job) -> None:
        """The prompt is computed where it was to be; `job.computed_tokens` has grown. An export holds its pages."""

    def first_token(self, job: Job) -> None:
        """The first token leaves the decode instance."""

    def finished(self, job: Job) -> None:
        """The last token left; nothing is held for the job any more."""


class SimulatedInstance(Protocol):
    """As the live instance: admission in order of arrival, continuous batching, chunked prefill, prefix cache."""

    instance_id: InstanceId
    cluster: ClusterName
    kind: ClusterKind
    role: Role
    profile: Profile

    @property
    def max_running(self) -> int: ...

    def cached_tokens(self, arrival: Arrival) -> int:
        """Tokens of a prompt that it need not compute now. Changes nothing."""
        ...

    def reserve(self, job: Job) -> None:
        """Decode side of a prompt that is prefilled elsewhere: `listener.reserved` follows, at once or later."""

    def begin_decode(self, job: Job) -> None:
        """All KV of a reserved prompt has come, and the first token: `first_token` follows at once, then `finished`."""

    def prefill_here(self, job: Job) -> None:
        """The KV of a reserved prompt will not come: computes it itself, then decodes."""

    def export(self, job: Job) -> None:
        """Prefill side: `prefill_started`, `prefilled` follow. The pages are held until `release`."""

    def serve(self, job: Job) -> None:
        """Prefill and decode: `prefill_started`, `prefilled`, `first_token`, `finished` follow."""

    def import_prefix(self, arrival: Arrival, tokens: int) -> None:
        """A cached prefix has come from another cluster: it is cached here too, as far as there is room."""

    def release(self, job: Job) -> None:
        """Gives up or ends whatever this instance does for the job, and frees what it holds for it."""

    def load(self) -> Load: ...
