"""The static threshold in a fleet of any size, compared with a policy that looks at every instance."""

from collections.abc import Iterable

from hypothesis import given, settings

from prfaas.core.errors import UnavailableError
from prfaas.policy.leads import CROWD_REQUESTS
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams
from tests.policy.fleets import knobs, requests, views


class Exhaustive:
    """Every decode instance with whoever would prefill for it, and the best of these plans."""

    def __init__(self, request: PlacementRequest, view: ClusterView, params: PolicyParams) -> None:
        self.request, self.params = request, params
        self.up = [i for i in view.instances if i.instance_id not in request.exclude]

    def held(self, instance: InstanceView) -> int:
        return min(self.request.cached_tokens.get(instance.instance_id, 0), self.request.prompt_tokens)

    def quickest(self, instances: Iterable[InstanceView]) -> InstanceView | None:
        return min(
            instances,
            key=lambda i: (i.waiting_tokens - self.held(i), i.waiting_requests + i.running_requests, i.instance_id),
            default=None,
        )

    def worker(self, decode: InstanceView) -> InstanceView:
        prefills = [i for i in self.up if i.role == "prefill"]
        beside = self.quickest(i for i in prefills if i.cluster == decode.cluster)
        remote = self.quickest(i for i in prefills if i.kind == "prfaas")
        if self.request.force == "remote" and remote is None:
            raise UnavailableError("nobody")
        uncached = self.request.prompt_tokens - self.held(decode)
        itself = decode.waiting_tokens + self.params.decode_prefill * uncached
        local = beside or decode
        if beside and self.held(decode):
            other = beside.waiting_tokens + self.request.prompt_tokens - self.held(beside)
            local = decode if itself < other else beside
        if self.request.whole_on_decode:
            return decode
        above = self.request.prompt_tokens - self.held(local) > self.params.threshold_tokens
        crosses = above if self.request.force is None else self.request.force == "remote"
        return remote if crosses and remote else local

    def cost(self, decode: InstanceView, worker: InstanceView) -> tuple[float, int, int, str]:
        waiting = decode.waiting_tokens + (worker.waiting_tokens if worker is not decode else 0)
        tokens = waiting + self.request.prompt_tokens - self.held(worker)
        return tokens, decode.waiting_requests + decode.running_requests, -self.held(decode), decode.instance_id

    def place(self) -> tuple[InstanceView, InstanceView] | None:
        decodes = [i for i in self.up if i.role == "decode"]
        limit = 2 * min((i.requests for i in decodes), default=0) + CROWD_REQUESTS
        try:
            plans = [(i, self.worker(i)) for i in decodes if i.requests <= limit]
        except UnavailableError:
            return None
        return min(plans, key=lambda plan: self.cost(*plan), default=None)


@given(request_=requests, view=views(), params=knobs)
@settings(max_examples=200)
def test_a_look_at_few_finds_what_a_look_at_all_does(
    request_: PlacementRequest, view: ClusterView, params: PolicyParams
) -> None:
    expected = Exhaustive(request_, view, params).place()
    try:
        placement: Placement | None = place(request_, view, params, "static_threshold")
    except UnavailableError:
        placement = None
    found = placement and (placement.decode, placement.prefill or placement.decode)
    assert found == expected
