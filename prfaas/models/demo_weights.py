"""Random weights for the demo model, scaled so that what it says depends on all that it read and does not repeat."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.models.parts import Part, parts
from prfaas.models.weight_maps.kimi_linear import KIMI_LINEAR

_GAINS = {"embedding": 1.0, "mixer.q": 2.0, "mlp.router": 2.0, "mixer.decay_up": 0.5}
"""Standard deviation of a layer's output for unit input, where not 1; the embedding's is that of its entries."""
_SHORTEST_TOKENS, _LONGEST_TOKENS = 8.0, 8192.0  # how long the channels of a linear state remember


def random_weights(spec: DecoderSpec, seed: int, silent_ids: Sequence[int]) -> dict[str, Tensor]:
    """Every tensor of a Kimi Linear checkpoint in fp32, shaped as stored. `silent_ids` are never the likeliest next."""
    generator = torch.Generator().manual_seed(seed)
    places = KIMI_LINEAR.sources(spec, ())
    weights: dict[str, Tensor] = {}
    for part in parts(spec):
        names = places[part.name][0].names
        whole = _random(part, generator)
        if part.name == "head":
            whole[list(silent_ids)] = 0
        pieces = whole.reshape(-1, whole.shape[-1]).chunk(len(names)) if len(names) > 1 else [_as_stored(part, whole)]
        weights |= {name: piece.contiguous() for name, piece in zip(names, pieces, strict=True)}
    return weights


def _as_stored(part: Part, whole: Tensor) -> Tensor:
    if part.name.endswith("_conv"):
        return whole[:, None]
    return whole[None, None, :, None] if part.name.endswith("a_log") else whole


def _random(part: Part, generator: torch.Generator) -> Tensor:
    name = part.name
    if name.endswith("norm"):
        return torch.ones(part.shape)
    if name.endswith(("a_log", "router_bias")):
        return torch.zeros(part.shape)
    if name.endswith("dt_bias"):
        return _decay_bias(part.shape, generator)
    gain = next((gain for suffix, gain in _GAINS.items() if name.endswith(suffix)), 1.0)
    fan_in = 1 if name == "embedding" else part.shape[-1]
    return torch.randn(part.shape, generator=generator) * (gain / math.sqrt(fan_in))


def _decay_bias(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Inverse softplus of decay rates spread evenly, in log scale, over the memory spans above."""
    low, high = math.log(1 / _LONGEST_TOKENS), math.log(1 / _SHORTEST_TOKENS)
    rate = (low + (high - low) * torch.rand(shape, generator=generator)).exp()
    return rate + torch.log(-torch.expm1(-rate))
