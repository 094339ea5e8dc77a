"""The entry point: a model directory becomes a decoder. One entry per family; everything else is shared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prfaas.core.errors import ModelError
from prfaas.core.model_config import Raw, kimi_linear
from prfaas.core.shape import DType, ModelShape, model_shape
from prfaas.models.cache_tensors import TORCH_DTYPES
from prfaas.models.checkpoint import Checkpoint, open_checkpoint
from prfaas.models.decoder import HybridDecoder
from prfaas.models.fingerprint import model_fingerprint
from prfaas.models.kimi_linear import build_kimi_linear
from prfaas.models.kimi_linear_weights import kimi_linear_weights
from prfaas.models.weights import Weights, WeightSpec, match_weights


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes one family of models; the config class is its own, hence Any."""

    config: Callable[[Raw], Any]
    weights: Callable[[Any], Iterable[WeightSpec]]
    build: Callable[[Any, Weights], HybridDecoder]


FAMILIES: dict[str, Family] = {"kimi_linear": Family(kimi_linear, kimi_linear_weights, build_kimi_linear)}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to serve."""

    decoder: HybridDecoder
    shape: ModelShape
    fingerprint: str
    """Equal on two instances iff they serve the same weights in the same dtype."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]


def load_model(directory: Path, dtype: DType) -> LoadedModel:
    """Loads a Hugging Face directory, converting weights to `dtype`.

    Raises ModelError naming the file or tensor at fault, UnsupportedModelError for an unknown family or variant.
    """
    checkpoint = open_checkpoint(directory)
    shape = model_shape(checkpoint.config, dtype)
    family = FAMILIES[shape.model_type]
    config = family.config(checkpoint.config)
    weights = match_weights(checkpoint, family.weights(config), TORCH_DTYPES[dtype])
    return LoadedModel(
        decoder=family.build(config, weights),
        shape=shape,
        fingerprint=model_fingerprint(config, dtype, weights),
        vocab_size=config.vocab_size,
        eos_token_ids=_eos_token_ids(checkpoint, config.eos_token_ids),
    )


def _eos_token_ids(checkpoint: Checkpoint, from_config: tuple[int, ...]) -> tuple[int, ...]:
    """generation_config.json has the last word, as in transformers: chat models add their end-of-turn token there."""
    eos = checkpoint.generation_config.get("eos_token_id")
    if eos is None:
        return from_config
    try:
        return tuple(int(token) for token in (eos if isinstance(eos, list) else [eos]))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint.directory}/generation_config.json: eos_token_id is {eos!r}") from error
