"""A profile file: what one kind of instance takes for prompts and steps of one model. Knows no formulas."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from prfaas.config.fault import Fault
from prfaas.config.sections import Section
from prfaas.config.yaml_file import Kind, read_model


class ProfileModelSection(Section):
    """What the model caches."""

    name: str = Field(min_length=1)
    kv_bytes_per_token: float = Field(gt=0)
    """Over all full-attention layers."""
    state_bytes: float = Field(default=0.0, ge=0)
    """Of one request, whatever its length: linear states and windows."""


class HardwareSection(Section):
    """One instance's hardware."""

    name: str = Field(min_length=1)
    """E.g. 8xH200."""
    gpus: int = Field(default=1, ge=1)
    usd_per_gpu_hour: float = Field(default=0.0, ge=0)
    cache_gib: float = Field(gt=0)
    """Memory for KV, states and cached prefixes, of all its GPUs together."""


class PointSection(Section):
    """One measurement."""

    tokens: int = Field(ge=1)
    seconds: float = Field(gt=0)


class PrefillSection(Section):
    """T_prefill(l) = overhead_s + per_token_s·l + per_token2_s·l²; `points` replace it as far as they reach."""

    overhead_s: float = Field(ge=0)
    per_token_s: float = Field(ge=0)
    per_token2_s: float = Field(default=0.0, ge=0)
    points: tuple[PointSection, ...] = ()


class BatchPointSection(Section):
    """A decode step of `requests` requests at no context."""

    requests: int = Field(ge=1)
    seconds: float = Field(gt=0)


class DecodeSection(Section):
    """T_decode(batch, context): the line through `points`, and `per_context_token_s` for every token looked back at."""

    points: tuple[BatchPointSection, ...] = Field(min_length=1)
    per_context_token_s: float = Field(default=0.0, ge=0)
    max_batch: int = Field(default=256, ge=1)
    """What the SLO or the memory allows."""


class ProfileFile(Section):
    """A whole profile file."""

    source: str = Field(min_length=1)
    """Where the figures come from: measured on what, or computed from what."""
    model: ProfileModelSection
    hardware: HardwareSection
    prefill: PrefillSection
    decode: DecodeSection


def load_profile(path: Path, overrides: Sequence[str] = ()) -> ProfileFile:
    """Raises ConfigError with every fault."""
    return read_model(path, _PROFILE, overrides)


def _check(profile: ProfileFile) -> list[Fault]:
    faults = []
    tokens = [point.tokens for point in profile.prefill.points]
    seconds = [point.seconds for point in profile.prefill.points]
    if len(tokens) == 1:
        faults.append(Fault(("prefill", "points"), "one point makes no line; give two or more, or none"))
    if tokens != sorted(set(tokens)):
        faults.append(Fault(("prefill", "points"), "tokens must rise from point to point"))
    if seconds != sorted(seconds):
        faults.append(Fault(("prefill", "points"), "a longer prompt cannot take less; measure again"))
    if not tokens and not profile.prefill.per_token_s:
        faults.append(Fault(("prefill", "per_token_s"), "0 without points: prompts would cost nothing"))
    requests = [point.requests for point in profile.decode.points]
    if requests != sorted(set(requests)):
        faults.append(Fault(("decode", "points"), "requests must rise from point to point"))
    return faults


_PROFILE = Kind("profile file", "model:, prefill: and decode:", ProfileFile, _check)
