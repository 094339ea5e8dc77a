"""What a request is expected to take: seconds at an instance, seconds and bytes on a link. Chooses nothing."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from prfaas.config.sections import CodecName
from prfaas.policy.codec import SAVES, Route, choose
from prfaas.policy.part import ClusterPart
from prfaas.policy.profile import Profile
from prfaas.policy.view import InstanceView, LinkView, PolicyParams

FAIR_SHARE = 0.25
"""Of a link, that a transfer gets however busy the link is: what is due earliest goes first."""
ENCODE_BYTES_S: Mapping[CodecName, float] = {"exact": 1.0e9, "int8": 1.0e9, "state16": 1.5e9}
"""Of one thread of usual machines. Each instance measures its own; here it only matters whether a link is slower."""
KV_CODECS: frozenset[CodecName] = frozenset({"raw", "exact", "int8"})
STATE_CODECS: frozenset[CodecName] = frozenset({"raw", "state16"})
_FASTEST_BYTES_S = max(ENCODE_BYTES_S.values())
_MOST_SAVED = max(SAVES.values())


class Times:
    """T_prefill of one prompt, worked out once for each profile: most instances of a fleet are alike."""

    __slots__ = ("_ends", "_lines", "_tokens")

    def __init__(self, prompt_tokens: int) -> None:
        self._tokens = prompt_tokens
        self._lines: dict[int, tuple[float, float]] = {}
        self._ends: dict[int, float] = {}

    def prefill_s(self, profile: Profile | None, cached: int) -> float:
        """With the first `cached` tokens of the prompt there."""
        assert profile
        if not cached:
            return self.line(profile)[0]
        curve = profile.prefill
        if (end := self._ends.get(id(profile))) is None:
            end = self._ends[id(profile)] = curve.until(self._tokens)
        return curve.overhead + max(0.0, end - curve.until(cached))

    def overhead_s(self, profile: Profile | None) -> float:
        """What `prefill_s` is not below, however much is cached."""
        assert profile
        return profile.prefill.overhead

    def line(self, profile: Profile | None) -> tuple[float, float]:
        """Seconds of the whole prompt, and what every cached token saves of them at most.

        `whole - cached * saved` is quicker to work out than `prefill_s`, and not above it where later tokens take no
        less than earlier ones: enough to see that an instance cannot be the quickest.
        """
        assert profile
        if (known := self._lines.get(id(profile))) is not None:
            return known
        whole = profile.prefill.seconds(self._tokens)
        line = self._lines[id(profile)] = whole, (whole - profile.prefill.overhead) / self._tokens
        return line


class Crossing(NamedTuple):
    """KV on its way between clusters."""

    done_s: float
    """From now until all is there, acknowledged."""
    num_bytes: float
    """Encoded."""
    usd: float
    codec: CodecName


def slot_s(decode: InstanceView, params: PolicyParams) -> float:
    """Until the decode instance has room for one more: answers that run end one after the other."""
    most = decode.max_running
    if not most or decode.requests < most or decode.profile is None:
        return 0.0
    ahead = decode.requests - most + 1
    return ahead * params.output_tokens * decode.profile.decode.step_s(most) / most


def usable(link: LinkView, params: PolicyParams) -> bool:
    """Whether KV may be entrusted to a link: it is up, and what is known of it is not stale."""
    if not link.up or link.bytes_per_s <= 0:
        return False
    return link.age_s <= params.stale_link_s or not link.queued_bytes


def scarce(link: LinkView, params: PolicyParams) -> bool:
    """Bandwidth-scarce, of the paper's two regimes (s3.4.3)."""
    return link.utilisation >= params.max_utilisation or link.queued_s >= params.max_link_queue_s


def unmade_bytes(source: ClusterPart, profile: Profile) -> float:
    """KV of the prompts that wait in a cluster: it will want to cross before that of one more."""
    return source.waiting_tokens * profile.kv_bytes_per_token + source.waiting_requests * profile.state_bytes


def cross(
    link: LinkView, params: PolicyParams, profile: Profile, tokens: int, span: tuple[float, float], ahead_bytes: float
) -> Crossing:
    """The KV of `tokens` tokens, which crosses while a prefill makes it, then the state, which exists at its end.

    `span`: begin and end of the prefill, in seconds from now. `ahead_bytes`: of others, not yet queued at the link.
    """
    start_s, end_s = span
    rate = link.bytes_per_s
    kv_bytes = tokens * profile.kv_bytes_per_token
    codec, state_codec = codecs(link, params, kv_bytes / max(end_s - start_s, 1e-9))
    kv_bytes, state_bytes = kv_bytes / SAVES[codec], profile.state_bytes / SAVES[state_codec]
    free_s = link.queued_s + ahead_bytes / rate
    kv_done_s = max(end_s, max(free_s, start_s) + kv_bytes / _spare(link))
    num_bytes = kv_bytes + state_bytes
    done_s = kv_done_s + state_bytes / rate + link.rtt_s
    return Crossing(done_s, num_bytes, num_bytes / 1e9 * link.usd_per_gb, codec)


def least_cross_s(link: LinkView, profile: Profile, tokens: int, start_s: float, prefill_s: float) -> float:
    """What `cross` is not below, whatever the codec; quicker to work out."""
    rate = link.bytes_per_s * _MOST_SAVED
    kv_s = tokens * profile.kv_bytes_per_token / rate
    return start_s + (max(kv_s, prefill_s)) + profile.state_bytes / rate + link.rtt_s


def move(link: LinkView, profile: Profile, tokens: int) -> Crossing:
    """A cached prefix: the KV of `tokens` tokens and the state at their end, all there already, as they are."""
    num_bytes = tokens * profile.kv_bytes_per_token + profile.state_bytes
    done_s = link.queued_s + num_bytes / _spare(link) + link.rtt_s
    return Crossing(done_s, num_bytes, num_bytes / 1e9 * link.usd_per_gb, "raw")


def codecs(link: LinkView, params: PolicyParams, produce_bytes_s: float) -> tuple[CodecName, CodecName]:
    """Of KV and of states, as sender and receiver will choose them."""
    offered = params.codecs
    if len(offered) <= 1:
        return "raw", "raw"
    if link.usd_per_gb:
        return _smallest(offered)
    rate = link.bytes_per_s
    if rate >= _FASTEST_BYTES_S:
        return "raw", "raw"
    route = Route(rate)
    kv = choose(offered, KV_CODECS, route, ENCODE_BYTES_S, produce_bytes_s)
    return kv, choose(offered, STATE_CODECS, route, ENCODE_BYTES_S, None)


@lru_cache(maxsize=16)
def _smallest(offered: frozenset[CodecName]) -> tuple[CodecName, CodecName]:
    route = Route(usd_per_gb=1.0)
    kv = choose(offered, KV_CODECS, route, ENCODE_BYTES_S, None)
    return kv, choose(offered, STATE_CODECS, route, ENCODE_BYTES_S, None)


def _spare(link: LinkView) -> float:
    return link.bytes_per_s * max(1.0 - link.utilisation, FAIR_SHARE)
