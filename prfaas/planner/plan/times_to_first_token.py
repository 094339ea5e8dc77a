"""Times to the first token, with queueing and transfer, as a distribution. Knows no costs."""

from dataclasses import dataclass
from math import exp

from prfaas.planner.plan.waiting import Station
from prfaas.planner.simulate.running import DECODE_BATCHES
from prfaas.policy.lengths import Lengths
from prfaas.policy.throughput import Deployment, Throughput

SAMPLES = 500
"""Prompt lengths that stand for all."""
PRECISION = 1e-4
"""Of a quantile, relative."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One of SAMPLES equally likely ones."""

    busy_s: float
    """What is added on average where it finds all instances busy: service time times `Station.busy_stretch`."""
    busy_chance: float
    rest_s: float
    """Its service time, and what follows the prefill."""


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """The mix of all prompts. What a busy instance adds to one of them is taken to be exponential."""

    prompts: tuple[Prompt, ...]
    decode_chance: float = 0.0
    """That no place on a decode instance is free..."""
    decode_wait_s: float = 0.0
    """...and how long it then takes on average: exponential too."""

    @property
    def mean_s(self) -> float:
        prefill_s = sum(p.rest_s + p.busy_chance * p.busy_s for p in self.prompts) / len(self.prompts)
        return prefill_s + self.decode_chance * self.decode_wait_s

    def share_within(self, seconds: float) -> float:
        """P(TTFT <= seconds)."""
        return sum(self._within(p, seconds - p.rest_s) for p in self.prompts) / len(self.prompts)

    def quantile_s(self, q: float) -> float:
        """By bisection."""
        low, high = 0.0, max(p.rest_s for p in self.prompts)
        while self.share_within(high) < q:
            low, high = high, 2 * high
        while high - low > PRECISION * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.share_within(middle) >= q else (middle, high)
        return high

    def _within(self, prompt: Prompt, left_s: float) -> float:
        if left_s < 0:
            return 0.0
        both = _sum_within(left_s, prompt.busy_s, self.decode_wait_s)
        busy, decode = prompt.busy_chance, self.decode_chance
        return (
            (1 - busy) * (1 - decode)
            + busy * (1 - decode) * _exponential_within(left_s, prompt.busy_s)
            + (1 - busy) * decode * _exponential_within(left_s, self.decode_wait_s)
            + busy * decode * both
        )


def first_tokens(
    deployment: Deployment, lengths: Lengths, at: Throughput, rate_req_s: float, rtt_s: float
) -> FirstTokens | None:
    """TTFT at a rate; None where a station cannot keep up with it, so that it would grow for ever.

    A prompt of l tokens takes T(l) alone. Of its pool's c instances it finds all busy with the chance C (Erlang C, with
    the mean of T over the pool's prompts), and then takes T(l) / (c (1 - rho)) longer. What was prefilled remotely has
    crossed, layer by layer, as far as the link kept pace; after the prefill follow the linear states, which exist only
    then, or all that the link could not carry in the meantime: max(S_state, S_kv(l) - B T) / B, where
    B = B_out (1 - utilisation), since transfers share the link; and one round trip.

    Every request holds a place on a decode instance from before its prefill until its last token; it waits for one as
    M/G/c, served in order, with c = 2 N_d BS_max and a service time of that length: places for two batches, as the
    simulator's instances have them.
    """
    threshold = at.threshold_tokens
    samples = lengths.samples(SAMPLES)
    remote, local = [tokens for tokens in samples if tokens > threshold], [t for t in samples if t <= threshold]
    pool = deployment.prfaas or deployment.pd
    remote_s = [deployment.prefill_s(pool, tokens) for tokens in remote]
    local_s = [deployment.prefill_s(deployment.pd, tokens) for tokens in local]
    stations = [
        Station(servers, sum(seconds) / len(seconds), rate_req_s * len(seconds) / SAMPLES)
        for servers, seconds in ((at.n_prfaas, remote_s), (at.n_p, local_s))
        if seconds
    ]
    crossing = at.egress_bytes_s * rate_req_s / at.lambda_max if at.lambda_max else 0.0
    if not all(station.stable for station in stations) or (remote and crossing >= deployment.egress_bytes_s):
        return None
    share_bytes_s = deployment.egress_bytes_s - crossing
    after_s = [
        _after_prefill_s(deployment, tokens, seconds, share_bytes_s) + rtt_s
        for tokens, seconds in zip(remote, remote_s, strict=True)
    ]
    prompts = _prompts(stations[0], remote_s, after_s) if remote else ()
    prompts += _prompts(stations[-1], local_s, [0.0] * len(local)) if local else ()
    return _with_decode_wait(deployment, lengths, at, rate_req_s, prompts)


def _prompts(station: Station, seconds: list[float], after_s: list[float]) -> tuple[Prompt, ...]:
    stretch, chance = station.busy_stretch, station.busy_chance
    return tuple(Prompt(s * stretch, chance, s + after) for s, after in zip(seconds, after_s, strict=True))


def _after_prefill_s(deployment: Deployment, tokens: float, prefill_s: float, share_bytes_s: float) -> float:
    assert deployment.prfaas
    whole, state = deployment.prfaas.kv_bytes(tokens), deployment.prfaas.state_bytes
    return max(state, whole - share_bytes_s * prefill_s) / share_bytes_s


def _with_decode_wait(
    deployment: Deployment, lengths: Lengths, at: Throughput, rate_req_s: float, prompts: tuple[Prompt, ...]
) -> FirstTokens | None:
    until_first_s = FirstTokens(prompts).mean_s
    slots = decode_slots(deployment, lengths, at)
    station = Station(int(DECODE_BATCHES * slots), until_first_s + slots / at.theta_pdd, rate_req_s)
    if not station.servers or not station.stable:
        return None
    chance = station.busy_chance
    return FirstTokens(prompts, chance, station.wait_s(scv=0.0) / chance if chance else 0.0)


def decode_slots(deployment: Deployment, lengths: Lengths, at: Throughput) -> float:
    """N_d BS_max: requests that decode at once."""
    context = lengths.mean / (1 - deployment.hit_rate) + deployment.output_tokens / 2
    batch = min(deployment.pd.decode.max_batch, deployment.pd.cache_bytes / deployment.pd.kv_bytes(context))
    return at.n_d * batch


def _exponential_within(seconds: float, mean_s: float) -> float:
    return 1 - exp(-seconds / mean_s) if mean_s else 1.0


def _sum_within(seconds: float, a_s: float, b_s: float) -> float:
    """P(X + Y <= seconds) of two exponentials with means `a_s` and `b_s`."""
    if not a_s or not b_s:
        return _exponential_within(seconds, a_s or b_s)
    if abs(a_s - b_s) < 1e-6 * a_s:
        return 1 - exp(-seconds / a_s) * (1 + seconds / a_s)
    return 1 - (a_s * exp(-seconds / a_s) - b_s * exp(-seconds / b_s)) / (a_s - b_s)
