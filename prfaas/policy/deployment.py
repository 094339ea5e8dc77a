"""What the throughput model is asked about: instances, the way between them, and what they serve. Knows no loads."""

from dataclasses import dataclass

from prfaas.policy.profile import Profile


@dataclass(frozen=True, slots=True)
class Deployment:
    """What there is: instances of the two kinds, the way between them, and how long answers are."""

    prfaas: Profile | None
    """None: no remote prefill at all (the homogeneous baseline)."""
    pd: Profile
    n_prfaas: int
    n_pd: int
    egress_bytes_s: float
    """`B_out`: what gets from the prfaas clusters to the pd clusters; 0 while nothing does."""
    output_tokens: float
    """`L_out`, mean."""
    hit_rate: float = 0.0
    """Share of every prompt that is cached where it is prefilled, and where it is decoded: a prompt with `u` uncached
    tokens has `u / (1 - hit_rate)` in all."""

    def __post_init__(self) -> None:
        assert self.n_prfaas >= 0
        assert self.n_pd >= 1
        assert self.egress_bytes_s >= 0
        assert self.output_tokens > 0
        assert 0 <= self.hit_rate < 1

    @property
    def offloads(self) -> bool:
        """Whether there is anywhere to send prompts to."""
        return self.prfaas is not None and self.n_prfaas > 0

    @property
    def remote(self) -> Profile:
        """Of instances that compute what is offloaded."""
        return self.prfaas or self.pd

    def prefill_s(self, profile: Profile, uncached_tokens: float) -> float:
        """`T_prefill` of a prompt with so many uncached tokens, attention over the cached ones included."""
        prompt = uncached_tokens / (1 - self.hit_rate)
        return profile.prefill.seconds(prompt, prompt - uncached_tokens)
