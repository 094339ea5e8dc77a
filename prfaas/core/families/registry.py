"""Which reader a `config.json` needs."""

from collections.abc import Callable

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ModelError, UnsupportedModelError
from prfaas.core.families.fields import Raw
from prfaas.core.families.kimi_linear import kimi_linear
from prfaas.core.families.mimo_v2_flash import mimo_v2_flash
from prfaas.core.families.minimax import minimax
from prfaas.core.families.minimax_m2 import minimax_m2
from prfaas.core.families.qwen3 import qwen3
from prfaas.core.families.qwen3_next import qwen3_next
from prfaas.core.families.ring import ring
from prfaas.core.families.sound import sound

READERS: dict[str, Callable[[Raw], DecoderSpec]] = {
    "kimi_linear": kimi_linear,
    "mimo_v2_flash": mimo_v2_flash,
    "minimax": minimax,
    "minimax_m2": minimax_m2,
    "qwen3": qwen3,
    "qwen3_5": qwen3_next,
    "qwen3_5_moe": qwen3_next,
    "qwen3_moe": qwen3,
    "qwen3_next": qwen3_next,
    "ring": ring,
}
_ALIASES = {"qwen3_5_text": "qwen3_5", "qwen3_5_moe_text": "qwen3_5_moe"}
_BY_ARCHITECTURE = {"BailingMoeV2_5ForCausalLM": "ring"}
"""Its published `model_type` is shared with other generations of the family."""


def family_of(raw: Raw) -> str:
    """The key of `READERS` for a config. Raises UnsupportedModelError naming what is known."""
    for architecture in raw.get("architectures") or ():
        if architecture in _BY_ARCHITECTURE:
            return _BY_ARCHITECTURE[architecture]
    model_type = str(raw.get("model_type"))
    family = _ALIASES.get(model_type, model_type)
    if family not in READERS:
        raise UnsupportedModelError(f"model_type {model_type!r} is not implemented; known: {', '.join(READERS)}")
    return family


def decoder_spec(raw: Raw) -> DecoderSpec:
    """What `config.json` (`raw`) describes.

    Raises ModelError for a missing or malformed value, UnsupportedModelError for what is not implemented.
    """
    try:
        return sound(READERS[family_of(raw)](raw))
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise ModelError(f"config.json: a value is not of the kind it should be: {error}") from error
