"""What prompts and steps take the instances of each cluster, as far as it is known now. Its clock is its caller's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.blend import Blend, CacheBytes, Report, blended
from prfaas.policy.profile import Profile

MOVED = 0.05
"""A profile is replaced when one of its times has changed by this share."""
PROMPTS_TOKENS = (64, 1024, 16_384, 131_072)


@dataclass(frozen=True, slots=True)
class Look:
    """What the latest reports changed."""

    moved: frozenset[ClusterName]
    """Clusters that have another profile now."""
    outliers: tuple[InstanceId, ...]


class LiveProfiles:
    """A file's until enough was measured; none where there is no file and nothing was measured."""

    def __init__(self, given: Mapping[ClusterName, Profile], cache: CacheBytes | None, slots: int) -> None:
        """`given`: the files', scaled to the engines. `slots`: requests that an instance runs at once."""
        self._given, self._cache, self._slots = dict(given), cache, slots
        self._now: dict[ClusterName, Blend] = {name: Blend(profile, measured=False) for name, profile in given.items()}
        self.output_tokens = 0.0
        """Mean of the latest answers; 0: none ended yet."""

    def of(self, cluster: ClusterName) -> Profile | None:
        """The same object until it moves."""
        blend = self._now.get(cluster)
        return blend.profile if blend else None

    def measured(self, cluster: ClusterName) -> bool:
        """Whether it stems from the instances themselves."""
        blend = self._now.get(cluster)
        return blend is not None and blend.measured

    def look(self, reports: Mapping[ClusterName, Sequence[Report]]) -> Look:
        """Takes in what instances say by now; a cluster that says nothing keeps what it has."""
        moved: set[ClusterName] = set()
        outliers: list[InstanceId] = []
        for cluster, those in reports.items():
            blend = blended(those, self._given.get(cluster), self._cache, self._slots)
            outliers += blend.outliers
            before = self.of(cluster)
            if blend.profile and before and _alike(blend.profile, before):
                self._now[cluster] = Blend(before, blend.measured)
            elif blend.profile:
                self._now[cluster] = blend
                moved.add(cluster)
        answers = [r.rates.output_tokens for those in reports.values() for r in those if r.rates.output_tokens]
        self.output_tokens = median(answers) if answers else self.output_tokens
        return Look(frozenset(moved), tuple(outliers))


def _alike(new: Profile, old: Profile) -> bool:
    sizes = {n for profile in (new, old) for n, _ in profile.decode.points}
    pairs = [(new.prefill.seconds(n), old.prefill.seconds(n)) for n in PROMPTS_TOKENS]
    pairs += [(new.decode.step_s(n), old.decode.step_s(n)) for n in sizes]
    contexts = [(p.decode.per_context_token_s * PROMPTS_TOKENS[-1] + p.decode.step_s(1)) for p in (new, old)]
    return all(abs(a - b) <= MOVED * b for a, b in (*pairs, (contexts[0], contexts[1])))
