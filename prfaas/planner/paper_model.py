"""The paper's own 1T model, whose configuration is not published: profiles from its figures (arXiv 2604.15039, s4)."""

from prfaas.config.profile_file import (
    BatchPointSection,
    DecodeSection,
    HardwareSection,
    PointSection,
    PrefillSection,
    ProfileFile,
    ProfileModelSection,
)
from prfaas.planner.gpus import GPUS, Gpu
from prfaas.planner.hosting import MEMORY_SHARE
from prfaas.planner.profiles import GIB
from prfaas.planner.roofline import rounded

NAME = "paper-1t"
_WEIGHTS_BYTES = 500e9
_STEP_S, _MAX_BATCH = 0.025, 20
_MODEL = ProfileModelSection(name=NAME, kv_bytes_per_token=17_100, state_bytes=182_800_000)
"""Within 1.1 % of table 5 at all four lengths."""
_H200 = PrefillSection(
    overhead_s=0.3958,
    per_token_s=4.008e-5,
    per_token2_s=1.0285e-10,
    points=tuple(
        PointSection(tokens=tokens, seconds=seconds)
        for tokens, seconds in ((1024, 0.44), (8192, 0.72), (32_768, 1.84), (131_072, 7.40))
    ),
)
_H20 = PrefillSection(overhead_s=0.46554, per_token_s=1.305201e-4, per_token2_s=2.87214e-10)

_REST = (
    "KV sizes from table 5. Memory computed: 90 % of the GPUs' less 500 GB of weights, since 1T parameters fit the "
    "paper's 8xH20 only at 4 bits. Prices: a ratio of 2.0 of H200 to H20 makes the paper's clusters cost the same."
)
_SOURCES = {
    "H200": "arXiv 2604.15039: prefill as measured, table 5 (beyond its last point a fit to it goes on); decode from "
    "table 6, where 20 requests at 25 ms a step give all three rates. ",
    "H20": "arXiv 2604.15039: prefill through the three times that table 6 implies (10,224 tokens 1.83 s, 27,486 "
    "tokens 4.27 s, 62,410 tokens 9.73 s); decode from it, too: 20 requests at 25 ms a step give all three rates. ",
}


def paper_profile(gpu: Gpu) -> ProfileFile:
    """On 8 GPUs; on 16 of those that hold the weights no other way."""
    gpus = next(n for n in (8, 16) if n * gpu.memory_bytes * MEMORY_SHARE > _WEIGHTS_BYTES)
    return ProfileFile(
        source=_SOURCES.get(gpu.name, _scaled_source(gpu)) + _REST,
        model=_MODEL,
        hardware=HardwareSection(
            name=f"{gpus}x{gpu.name}",
            gpus=gpus,
            usd_per_gpu_hour=gpu.usd_per_hour,
            cache_gib=round((gpus * gpu.memory_bytes * MEMORY_SHARE - _WEIGHTS_BYTES) / GIB),
        ),
        prefill=_H200 if gpu.name == "H200" else _H20 if gpu.name == "H20" else _scaled(gpu, gpus),
        decode=DecodeSection(
            points=(
                BatchPointSection(requests=_MAX_BATCH, seconds=_step_s(gpu, gpus)),
                # A batch twice as large serves no more requests a second than the largest that keeps the SLO.
                BatchPointSection(requests=2 * _MAX_BATCH, seconds=2 * _step_s(gpu, gpus)),
            ),
            max_batch=_MAX_BATCH,
        ),
    )


def _scaled(gpu: Gpu, gpus: int) -> PrefillSection:
    """The overhead stays, what is multiplied takes longer by the ratio of the peaks."""
    ratio = 8 * GPUS["H200"].flop_s / (gpus * gpu.flop_s)
    origin = _H200.overhead_s
    return PrefillSection(
        overhead_s=origin,
        per_token_s=rounded(_H200.per_token_s * ratio),
        per_token2_s=rounded(_H200.per_token2_s * ratio),
        points=tuple(
            PointSection(tokens=p.tokens, seconds=rounded(origin + (p.seconds - origin) * ratio)) for p in _H200.points
        ),
    )


def _step_s(gpu: Gpu, gpus: int) -> float:
    if gpu.name in _SOURCES:
        return _STEP_S
    return rounded(_STEP_S * 8 * GPUS["H200"].bytes_s / (gpus * gpu.bytes_s))


def _scaled_source(gpu: Gpu) -> str:
    return (
        f"Scaled from the 8xH200 of arXiv 2604.15039, table 5, not measured: prefill beyond its overhead by the ratio "
        f"of the bf16 peaks ({GPUS['H200'].tflop_s:g} and {gpu.tflop_s:g} TFLOP/s a GPU), decode's 25 ms (table 6) by "
        f"that of the bandwidths ({GPUS['H200'].tbyte_s:g} and {gpu.tbyte_s:g} TB/s). "
    )
