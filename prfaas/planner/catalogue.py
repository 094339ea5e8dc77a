"""The profiles that come with this project: seven published models, and the paper's own, on every GPU that is known."""

from dataclasses import dataclass
from statistics import fmean

from prfaas.config.profile_file import ProfileFile
from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.families.registry import decoder_spec
from prfaas.core.shape import shape_of
from prfaas.planner.gpus import GPUS, Gpu
from prfaas.planner.hosting import Hosting, host
from prfaas.planner.paper_model import NAME, paper_profile
from prfaas.planner.profile_text import profile_text
from prfaas.planner.published_models import published_config
from prfaas.planner.roofline import CACHE_DTYPE, Assumptions, roofline_profile
from prfaas.planner.weights import weights_of

ROOM_TOKENS = 131_072
"""An instance must hold one prompt of this length beside the weights."""
COUNTS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What makes the roofline meet the rates that were measured on 8xH200."""

    efficiency: float
    overhead_s: float


FITTED: dict[str, Fitted] = {
    "Kimi-Linear-48B-A3B": Fitted(0.156, 0.376),
    "MiMo-V2-Flash": Fitted(0.175, 0.454),
    "Qwen3.5-397B-A17B": Fitted(0.246, 0.452),
    "Ring-2.5-1T": Fitted(0.2675, 0.181),
    "MiniMax-M2.5": Fitted(0.348, 0.483),
    "Qwen3-235B-A22B": Fitted(0.415, 0.477),
}
"""By model: least largest error of `Phi_kv` (Eq 1) at 8K, 32K and 128K of table 3, arXiv 2604.15039."""
AVERAGE = Fitted(
    round(fmean(f.efficiency for f in FITTED.values()), 3), round(fmean(f.overhead_s for f in FITTED.values()), 3)
)
"""For models that nobody measured."""
MODELS = (*FITTED, "Qwen3-Next-80B-A3B")


def catalogue() -> dict[str, str]:
    """The text of each file, by its name."""
    files = {f"{model}-{gpu.name}": published_profile(model, gpu) for model in MODELS for gpu in GPUS.values()}
    files |= {f"{NAME}-{gpu.name}": paper_profile(gpu) for gpu in GPUS.values()}
    return {f"{name.lower()}.yaml": profile_text(file) for name, file in files.items()}


def published_profile(model: str, gpu: Gpu) -> ProfileFile:
    """Of one of `MODELS`, on the fewest GPUs that hold it, 8 at least."""
    spec = decoder_spec(published_config(model))
    assumed, origin = assumptions(model)
    return roofline_profile(model, spec, hosting(spec, gpu, COUNTS), assumed, origin)


def assumptions(model: str) -> tuple[Assumptions, str]:
    """What is known of a model's speed, and from where; the average where nothing is."""
    fitted = FITTED.get(model, AVERAGE)
    origin = " (both fitted to table 3 of arXiv 2604.15039, 8xH200)"
    if model not in FITTED:
        origin = " (both the mean of six other models, fitted to table 3 of arXiv 2604.15039, 8xH200)"
    return Assumptions(fitted.efficiency, fitted.overhead_s), origin


def hosting(spec: DecoderSpec, gpu: Gpu, counts: tuple[int, ...]) -> Hosting:
    """Raises ConfigError when the model fits none of the counts."""
    prompt_bytes = shape_of(spec, CACHE_DTYPE).cache_bytes(min(ROOM_TOKENS, spec.max_context_tokens))
    return host(weights_of(spec).total, prompt_bytes, gpu, counts)
