"""The plans that a request has, with what each is expected to take. Prefers none but the quicker."""

from dataclasses import dataclass
from typing import NamedTuple

from prfaas.core.ids import ClusterName
from prfaas.policy.candidates import Holders, crowd_limit, decodes, held, holders, workers
from prfaas.policy.expect import Crossing, Times, cross, move, scarce, slot_s, unmade_bytes, usable
from prfaas.policy.view import (
    CacheTransfer,
    ClusterView,
    Expected,
    InstanceView,
    LinkView,
    PlacementRequest,
    PolicyParams,
)

WORKERS = 3
"""Of the remote clusters, so many with the quickest prefills are put together with decode instances..."""
TARGETS = 4
"""...of so many clusters that they have a link to; a link that is scarce does not count."""


class Plan(NamedTuple):
    """Where a request might go. The least is best: by time, then by company on the decode instance, then by name."""

    ttft_s: float
    requests: int
    lacking: int
    """Tokens that the decode instance has not cached."""
    decode_name: str
    worker_name: str
    decode: InstanceView
    worker: InstanceView
    cached: int
    """Tokens of the prompt that the worker need not compute."""
    start_s: float
    prefill_s: float
    crossing: Crossing | None = None
    moved: CacheTransfer | None = None
    moving: Crossing | None = None

    @property
    def usd(self) -> float:
        return (self.crossing.usd if self.crossing else 0.0) + (self.moving.usd if self.moving else 0.0)

    @property
    def expected(self) -> Expected | None:
        """None where KV is to cross a link of which nothing is known."""
        if self.ttft_s == float("inf"):
            return None
        ways = [way for way in (self.crossing, self.moving) if way]
        return Expected(
            self.ttft_s,
            self.start_s,
            self.prefill_s,
            max(0.0, self.ttft_s - self.start_s - self.prefill_s),
            sum(way.num_bytes for way in ways),
            self.usd,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what of the fleet comes into question for it."""

    request: PlacementRequest
    view: ClusterView
    params: PolicyParams
    found: Holders
    limit: int
    """Requests above which a decode instance is passed over."""
    times: Times

    @classmethod
    def of(cls, request: PlacementRequest, view: ClusterView, params: PolicyParams) -> "Question":
        """Raises UnavailableError when nothing can decode."""
        limit = crowd_limit(request, view)
        return cls(request, view, params, holders(request, view), limit, Times(request.prompt_tokens))


Target = tuple[float, int, int, str, InstanceView]
"""A decode instance: seconds until it has room, its requests, tokens that it lacks, its name."""
Ready = tuple[float, int, str, int, InstanceView]
"""A prefill instance: seconds until it would be done, its requests, its name, tokens that it has cached."""


def local_plan(question: Question) -> tuple[Plan, list[Target]]:
    """The quickest plan that stays in one cluster, and the decode instances that a remote prefill could be for.

    A decode instance prefills itself where it has a prefix, where nobody else can, or where the whole prompt has to be
    computed on it.
    """
    request = question.request
    best: Plan | None = None
    targets: list[Target] = []
    for part in question.view.parts.values():
        if not part.decodes:
            continue
        beside = quickest(question, part.name)
        for decode in decodes(request, part, question.found, question.limit):
            cached = held(request, decode)
            room_s = slot_s(decode, question.params)
            targets.append((room_s, decode.requests, request.prompt_tokens - cached, decode.instance_id, decode))
            plan = None
            if beside is not None and not request.whole_on_decode:
                plan = _beside(request, decode, cached, room_s, beside)
            if cached or plan is None:
                itself = _itself(question, decode, cached, room_s)
                plan = itself if plan is None or itself < plan else plan
            if best is None or plan < best:
                best = plan
    assert best
    return best, targets


def remote_plan(question: Question, targets: list[Target], *, unseen: bool = False, every: bool = False) -> Plan | None:
    """The quickest plan that prefills in a `prfaas` cluster; None where none has an instance and a link to be used.

    `unseen`: links do not matter, not even where none is known. `every`: no pair is left out to save time.
    """
    best: Plan | None = None
    tried = 0
    parts = question.view.parts.values()
    ready = [r for part in parts if part.kind == "prfaas" and (r := quickest(question, part.name))]
    ready.sort()
    targets.sort()
    for one in ready:
        if best is not None and (one[0] >= best.ttft_s or (tried >= WORKERS and not every)):
            break
        found, free = _remote_from(question, one, targets, unseen=unseen, every=every)
        tried += free
        if found is not None and (best is None or found < best):
            best = found
    return best


def quickest(question: Question, cluster: ClusterName) -> Ready | None:
    """The prefill instance of a cluster that would be done first."""
    request, times, best = question.request, question.times, None
    for worker in workers(request, question.view.parts[cluster], question.found):
        assert worker.profile
        cached = held(request, worker)
        done_s = worker.queue_s + times.prefill_s(worker.profile, cached)
        one = (done_s, worker.requests, worker.instance_id, cached, worker)
        if best is None or one < best:
            best = one
    return best


def with_moved_cache(question: Question, plan: Plan) -> Plan:
    """The plan, after the longest prefix of the other side has been moved to where it prefills if that is quicker."""
    source = longest_holder(question, remote=plan.worker.kind != "prfaas")
    if source is None:
        return plan
    tokens = held(question.request, source)
    link = question.view.links.get((source.cluster, plan.worker.cluster))
    if tokens <= plan.cached or link is None or not usable(link, question.params) or scarce(link, question.params):
        return plan
    profile = plan.worker.profile
    assert profile
    moving = move(link, profile, tokens - plan.cached)
    start_s = max(plan.start_s, moving.done_s)
    prefill_s = question.times.prefill_s(profile, tokens)
    if plan.worker is plan.decode:
        prefill_s *= question.params.decode_prefill
    crossing, ttft_s = plan.crossing, start_s + prefill_s
    if crossing is not None:
        way = question.view.links[plan.worker.cluster, plan.decode.cluster]
        ahead = _ahead(question, plan.worker)
        crossing = cross(way, question.params, profile, plan.lacking, (start_s, ttft_s), ahead)
        ttft_s = crossing.done_s
    if ttft_s >= plan.ttft_s:
        return plan
    moved = CacheTransfer(source, tokens, moving.num_bytes)
    return plan._replace(
        ttft_s=ttft_s,
        cached=tokens,
        start_s=start_s,
        prefill_s=prefill_s,
        crossing=crossing,
        moved=moved,
        moving=moving,
    )


def longest_holder(question: Question, *, remote: bool) -> InstanceView | None:
    """Who has most of the prompt cached, in `prfaas` clusters or in the others."""
    those = [
        (-cached, i.instance_id, i)
        for few in question.found.values()
        for i in few
        if (i.kind == "prfaas") == remote and (cached := held(question.request, i))
    ]
    return min(those)[2] if those else None


def _beside(request: PlacementRequest, decode: InstanceView, cached: int, room_s: float, beside: Ready) -> Plan:
    done_s, _, name, known, worker = beside
    start_s = max(room_s, worker.queue_s)
    prefill_s = done_s - worker.queue_s
    lacking = request.prompt_tokens - cached
    return Plan(
        start_s + prefill_s,
        decode.requests,
        lacking,
        decode.instance_id,
        name,
        decode,
        worker,
        known,
        start_s,
        prefill_s,
    )


def _itself(question: Question, decode: InstanceView, cached: int, room_s: float) -> Plan:
    assert decode.profile
    slowdown = question.params.decode_prefill
    start_s = max(room_s, decode.queue_s * slowdown)
    prefill_s = question.times.prefill_s(decode.profile, cached) * slowdown
    lacking = question.request.prompt_tokens - cached
    name = decode.instance_id
    return Plan(start_s + prefill_s, decode.requests, lacking, name, name, decode, decode, cached, start_s, prefill_s)


def _remote_from(
    question: Question, ready: Ready, targets: list[Target], *, unseen: bool, every: bool
) -> tuple[Plan | None, bool]:
    """The best of one worker's plans, and whether it had a link with bandwidth to spare."""
    _, _, name, cached, worker = ready
    params, links = question.params, question.view.links
    assert worker.profile
    prefill_s = ready[0] - worker.queue_s
    ahead = _ahead(question, worker)
    best, tried = None, 0
    for room_s, requests, lacking, decode_name, decode in targets:
        link = links.get((worker.cluster, decode.cluster))
        start_s = max(room_s, worker.queue_s)
        crossing, ttft_s = None, float("inf")
        if usable(link, params):
            assert link
            crossing = cross(link, params, worker.profile, lacking, (start_s, start_s + prefill_s), ahead)
            ttft_s = crossing.done_s
            tried += not scarce(link, params)
        elif not unseen:
            continue
        if best is None or ttft_s <= best.ttft_s:
            plan = Plan(
                ttft_s, requests, lacking, decode_name, name, decode, worker, cached, start_s, prefill_s, crossing
            )
            best = plan if best is None or plan < best else best
        if tried >= TARGETS and not every:
            break
    return best, tried > 0


def _ahead(question: Question, worker: InstanceView) -> float:
    """Bytes that others in the worker's cluster will send first, shared among the clusters that they may go to."""
    assert worker.profile
    parts = question.view.parts
    targets = sum(part.kind == "pd" for part in parts.values())
    return unmade_bytes(parts[worker.cluster], worker.profile) / max(1, targets)


def link_of(question: Question, plan: Plan) -> LinkView | None:
    """That a plan's KV crosses, where it is known."""
    return question.view.links.get((plan.worker.cluster, plan.decode.cluster))
