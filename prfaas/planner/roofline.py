"""A profile computed from a model's layers and a GPU's peaks, for hardware that one does not have (yet).

Prefill is bound by what the GPUs multiply, decode by what they read or multiply, whichever takes longer.
"""

from dataclasses import dataclass

from prfaas.config.profile_file import (
    BatchPointSection,
    DecodeSection,
    HardwareSection,
    PrefillSection,
    ProfileFile,
    ProfileModelSection,
)
from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ConfigError
from prfaas.core.shape import DType, shape_of
from prfaas.planner.hosting import Hosting
from prfaas.planner.profiles import GIB, decode_curve
from prfaas.planner.work import DecodeWork, decode_work, prefill_flop
from prfaas.policy.profile import DecodeCurve

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CACHE_DTYPE: DType = "bfloat16"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What data sheets do not say."""

    efficiency: float
    """Share of the peak at which prompts are multiplied, communication between GPUs included."""
    overhead_s: float
    """Of a prompt, whatever its length."""
    bandwidth_efficiency: float = 0.8
    """Share of the memory's peak that decode steps reach."""
    decode_efficiency: float = 0.5
    """Share of the peak at which large batches decode; they are short of bandwidth long before on most GPUs."""
    step_overhead_s: float = 0.005
    """Of a decode step, whatever its batch: launches, and the GPUs' exchange after each layer."""
    tpot_s: float = 0.05
    """What a decode step may take..."""
    context_tokens: int = 32_768
    """...with so many tokens in each request: sets `max_batch`."""


def roofline_profile(
    name: str, spec: DecoderSpec, hosting: Hosting, assumed: Assumptions, origin: str = ""
) -> ProfileFile:
    """`origin`: where efficiency and overhead are from, in words. Raises ConfigError when no batch keeps to tpot_s."""
    shape = shape_of(spec, CACHE_DTYPE)
    kv_bytes = shape.cache_bytes(assumed.context_tokens)
    return ProfileFile(
        source=_source(hosting, assumed, origin),
        model=ProfileModelSection(
            name=name, kv_bytes_per_token=shape.kv_bytes_per_token, state_bytes=shape.state_bytes
        ),
        hardware=HardwareSection(
            name=hosting.name,
            gpus=hosting.gpus,
            usd_per_gpu_hour=hosting.gpu.usd_per_hour,
            cache_gib=rounded(hosting.cache_bytes / GIB),
        ),
        prefill=_prefill(spec, hosting, assumed),
        decode=_decode(decode_work(spec, CACHE_DTYPE, hosting.weight_bytes), kv_bytes, hosting, assumed),
    )


def rounded(value: float, digits: int = 5) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def _prefill(spec: DecoderSpec, hosting: Hosting, assumed: Assumptions) -> PrefillSection:
    flop = prefill_flop(spec)
    flop_s = hosting.gpus * hosting.gpu.flop_s * assumed.efficiency
    return PrefillSection(
        overhead_s=rounded(max(0.0, assumed.overhead_s + flop.once / flop_s)),
        per_token_s=rounded(flop.per_token / flop_s),
        per_token2_s=rounded(flop.per_token2 / flop_s),
    )


def _decode(work: DecodeWork, kv_bytes: float, hosting: Hosting, assumed: Assumptions) -> DecodeSection:
    bytes_s = hosting.gpus * hosting.gpu.bytes_s * assumed.bandwidth_efficiency
    flop_s = hosting.gpus * hosting.gpu.flop_s * assumed.decode_efficiency
    points = tuple(
        BatchPointSection(
            requests=batch,
            seconds=rounded(assumed.step_overhead_s + max(work.read_bytes(batch) / bytes_s, work.flop(batch) / flop_s)),
        )
        for batch in BATCHES
    )
    per_context_token_s = max(work.kv_bytes_per_token / bytes_s, work.flop_per_context_token / flop_s)
    section = DecodeSection(points=points, per_context_token_s=rounded(per_context_token_s))
    batch = _max_batch(decode_curve(section), kv_bytes, hosting, assumed)
    return section.model_copy(update={"max_batch": batch})


def _max_batch(curve: DecodeCurve, kv_bytes: float, hosting: Hosting, assumed: Assumptions) -> int:
    """The largest that neither outgrows the cache nor the time that a step may take."""

    def step_s(batch: int) -> float:
        return curve.step_s(batch, batch * assumed.context_tokens)

    if step_s(1) > assumed.tpot_s:
        raise ConfigError(
            f"one request alone takes {step_s(1) * 1e3:.1f} ms a step on {hosting.name}, and "
            f"{assumed.tpot_s * 1e3:g} ms are allowed; give more GPUs (--gpus), or allow more (--tpot-ms)"
        )
    held = max(1, int(hosting.cache_bytes // kv_bytes))
    return max(batch for batch in range(1, min(held, BATCHES[-1]) + 1) if step_s(batch) <= assumed.tpot_s)


def _source(hosting: Hosting, assumed: Assumptions, origin: str) -> str:
    gpu = hosting.gpu
    efficiency, bandwidth, decode = (
        f"{share * 100:.3g} %"
        for share in (assumed.efficiency, assumed.bandwidth_efficiency, assumed.decode_efficiency)
    )
    return (
        f"Roofline, not measured: prefill at {efficiency} of {gpu.tflop_s:g} TFLOP/s a GPU after "
        f"{assumed.overhead_s:g} s{origin}; decode at {bandwidth} of {gpu.tbyte_s:g} TB/s or "
        f"{decode} of the TFLOP/s, plus {assumed.step_overhead_s * 1e3:g} ms a step. "
        f"Weights in {hosting.precision}; cache: what they leave of 90 % of {hosting.gpus} x {gpu.memory_gb:g} GB. "
        f"max_batch: {assumed.tpot_s * 1e3:g} ms a step with {assumed.context_tokens:,} tokens in each request."
    )
