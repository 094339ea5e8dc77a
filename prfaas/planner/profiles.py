"""Profile files as the policies' profiles. Knows neither where the figures come from nor who asks."""

from pathlib import Path

from prfaas.config.profile_file import DecodeSection, PrefillSection, ProfileFile, load_profile
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile

GIB = 2**30


def read_profile(path: Path) -> Profile:
    """What a profile file says. Raises ConfigError with every fault of it."""
    return profile_of(load_profile(path))


def profile_of(file: ProfileFile) -> Profile:
    """Named `MODEL on HARDWARE`."""
    hardware = file.hardware
    return Profile(
        name=f"{file.model.name} on {hardware.name}",
        prefill=prefill_curve(file.prefill),
        decode=decode_curve(file.decode),
        kv_bytes_per_token=file.model.kv_bytes_per_token,
        state_bytes=file.model.state_bytes,
        cache_bytes=hardware.cache_gib * GIB,
        gpus=hardware.gpus,
        usd_per_hour=hardware.gpus * hardware.usd_per_gpu_hour,
    )


def prefill_curve(section: PrefillSection) -> PrefillCurve:
    """`T_prefill(l, cached)`."""
    points = tuple((point.tokens, point.seconds) for point in section.points)
    return PrefillCurve(section.overhead_s, section.per_token_s, section.per_token2_s, points)


def decode_curve(section: DecodeSection) -> DecodeCurve:
    """`T_decode(batch, context)`."""
    points = tuple((point.requests, point.seconds) for point in section.points)
    return DecodeCurve(points, section.per_context_token_s, section.max_batch)
