"""One live instance as a policy sees it. Knows nothing of the rest of the fleet."""

from dataclasses import dataclass, field
from typing import Literal

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.profile import Profile

ClusterKind = Literal["prfaas", "pd"]
Role = Literal["prefill", "decode"]

LONG_PROMPT_TOKENS = 32_768
"""Tokens that wait are taken to be of prompts no longer than this: what is left of one that is half done says less."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One live instance as its last heartbeat described it."""

    instance_id: InstanceId
    cluster: ClusterName
    kind: ClusterKind
    role: Role
    control_address: str = ""
    waiting_tokens: int = 0
    """Prompt tokens that it has accepted and not yet prefilled."""
    waiting_requests: int = 0
    running_requests: int = 0
    pages_free: int = 0
    max_running: int = 0
    """Requests that it runs at once; 0: not known."""
    profile: Profile | None = None
    """What it takes for a prompt; None: not known, and its queue is counted in tokens alone."""
    requests: int = field(init=False, repr=False, compare=False)
    """Waiting and running."""
    queue_s: float = field(init=False, repr=False, compare=False)
    """What the prompts that wait will take it, one after the other; 0 where its profile is not known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "requests", self.waiting_requests + self.running_requests)
        object.__setattr__(self, "queue_s", self._queue_s() if self.profile and self.waiting_tokens > 0 else 0.0)

    @property
    def beyond_slots(self) -> int:
        """Requests that it has and cannot run yet."""
        return max(0, self.requests - self.max_running) if self.max_running else self.waiting_requests

    def plus(self, requests: int, tokens: int) -> "InstanceView":
        """With so many more requests, whose prompts have so many tokens to be prefilled here."""
        decodes = self.role == "decode"
        # Not `replace`, which takes three times as long: the router does this several times a request.
        return InstanceView(
            self.instance_id,
            self.cluster,
            self.kind,
            self.role,
            self.control_address,
            self.waiting_tokens + tokens,
            self.waiting_requests + (0 if decodes else requests),
            self.running_requests + (requests if decodes else 0),
            self.pages_free,
            self.max_running,
            self.profile,
        )

    def _queue_s(self) -> float:
        assert self.profile
        curve = self.profile.prefill
        each = min(self.waiting_tokens / max(1, self.waiting_requests), LONG_PROMPT_TOKENS)
        return self.waiting_requests * curve.overhead + self.waiting_tokens / each * curve.work(0.0, each)
