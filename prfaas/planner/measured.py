"""What was measured on one engine, the profile that follows from it, and how far the two are apart."""

from collections.abc import Iterator
from dataclasses import dataclass

from prfaas.config.profile_file import HardwareSection, ProfileFile, ProfileModelSection
from prfaas.planner.fit import DecodeSample, PrefillSample, fit_decode, fit_prefill
from prfaas.planner.profiles import decode_curve, prefill_curve
from prfaas.policy.profile import PrefillCurve


@dataclass(frozen=True, slots=True)
class CachedSample:
    """A prompt whose first `cached_tokens` were in the prefix cache."""

    tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one engine."""

    prefills: tuple[PrefillSample, ...]
    cached: tuple[CachedSample, ...]
    decodes: tuple[DecodeSample, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measurement, and what the profile says instead."""

    what: str
    measured_s: float
    fitted_s: float

    @property
    def error(self) -> float:
        """Relative, above 0 where the profile says more."""
        return self.fitted_s / self.measured_s - 1


def profile_measured(
    measured: Measured, source: str, model: ProfileModelSection, hardware: HardwareSection, max_batch: int
) -> ProfileFile:
    """Raises ConfigError where the measurements make no curve."""
    return ProfileFile(
        source=source,
        model=model,
        hardware=hardware,
        prefill=fit_prefill(measured.prefills),
        decode=fit_decode(measured.decodes, max_batch),
    )


def compare(measured: Measured, profile: ProfileFile) -> Iterator[Comparison]:
    """Of prompts the formula, since the points are what was measured; else what the profile says.

    Cached prompts took no part in the fit: they check `T_prefill(l, cached)`.
    """
    section, curve = profile.prefill, prefill_curve(profile.prefill)
    formula = PrefillCurve(section.overhead_s, section.per_token_s, section.per_token2_s)
    for prompt in measured.prefills:
        yield Comparison(f"prefill of {prompt.tokens:,} tokens", prompt.seconds, formula.seconds(prompt.tokens))
    for behind in measured.cached:
        what = f"prefill of {behind.tokens:,} tokens, {behind.cached_tokens:,} of them cached"
        yield Comparison(what, behind.seconds, curve.seconds(behind.tokens, behind.cached_tokens))
    steps = decode_curve(profile.decode)
    for step in measured.decodes:
        what = f"step of {step.requests}, {step.context_tokens / step.requests:,.0f} tokens each"
        yield Comparison(what, step.seconds, steps.step_s(step.requests, step.context_tokens))
