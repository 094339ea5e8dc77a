"""The entry point: a model directory becomes a decoder, or one rank's slice of it. Knows no family by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ModelError, UnsupportedModelError
from prfaas.core.families.registry import decoder_spec, family_of
from prfaas.core.shape import DType, ModelShape, shape_of
from prfaas.models.build import build_decoder
from prfaas.models.cache_tensors import TORCH_DTYPES
from prfaas.models.checkpoint import Checkpoint, open_checkpoint
from prfaas.models.decoder import HybridDecoder
from prfaas.models.fingerprint import model_fingerprint
from prfaas.models.ranks import ALONE, Ranks
from prfaas.models.weight_maps.registry import WEIGHT_MAPS
from prfaas.models.weights import match_weights


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to serve."""

    decoder: HybridDecoder
    spec: DecoderSpec
    shape: ModelShape
    fingerprint: str
    """Equal on two instances iff they serve the same weights, in whatever dtype."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]


def load_model(directory: Path, dtype: DType, ranks: Ranks = ALONE, device: torch.device | str = "cpu") -> LoadedModel:
    """Loads a Hugging Face directory to `device`, converting weights to `dtype`; of several ranks, each its slice.

    Raises ModelError naming the file or tensor at fault, UnsupportedModelError for an unknown family or variant.
    """
    checkpoint = open_checkpoint(directory)
    _refuse_quantised(checkpoint.config)
    spec = decoder_spec(checkpoint.config)
    weights = match_weights(checkpoint, spec, WEIGHT_MAPS[family_of(checkpoint.config)], TORCH_DTYPES[dtype])
    return LoadedModel(
        decoder=build_decoder(spec, weights, ranks, torch.device(device)),
        spec=spec,
        shape=shape_of(spec, dtype),
        fingerprint=model_fingerprint(spec, weights),
        vocab_size=spec.vocab_size,
        eos_token_ids=_eos_token_ids(checkpoint, spec.eos_token_ids),
    )


def _refuse_quantised(config: Mapping[str, Any]) -> None:
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, Mapping) else None
    settings = config.get("quantization_config") or inner
    if settings:
        method = settings.get("quant_method") if isinstance(settings, Mapping) else settings
        raise UnsupportedModelError(
            f"config.json has a quantization_config ({method}): quantised weights are not implemented; "
            "serve a checkpoint in bfloat16 or float32"
        )


def _eos_token_ids(checkpoint: Checkpoint, from_config: tuple[int, ...]) -> tuple[int, ...]:
    """generation_config.json has the last word, as in transformers: chat models add their end-of-turn token there."""
    eos = checkpoint.generation_config.get("eos_token_id")
    if eos is None:
        return from_config
    try:
        return tuple(int(token) for token in (eos if isinstance(eos, list) else [eos]))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{checkpoint.directory}/generation_config.json: eos_token_id is {eos!r}") from error
