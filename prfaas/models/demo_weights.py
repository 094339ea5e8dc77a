"""Random weights for the demo model, scaled so that what it says depends on all that it read and does not repeat."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from prfaas.core.model_config import KimiLinearConfig
from prfaas.models.kimi_linear_weights import kimi_linear_weights
from prfaas.models.weights import WeightSpec

_GAINS = {
    "model.embed_tokens.weight": 1.0,
    "q_proj.weight": 2.0,
    "gate.weight": 2.0,
    "f_b_proj.weight": 0.5,
}
"""Standard deviation of a layer's output for unit input, where not 1; the embedding's is that of its entries."""
_SHORTEST_TOKENS, _LONGEST_TOKENS = 8.0, 8192.0  # how long the channels of a linear state remember


def random_weights(config: KimiLinearConfig, seed: int, silent_ids: Sequence[int]) -> dict[str, Tensor]:
    """Every tensor of a checkpoint in fp32, shaped as stored. `silent_ids` are never the likeliest next token."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for spec in kimi_linear_weights(config):
        shape = spec.stored_shapes[0] if spec.stored_shapes else spec.shape
        weights[spec.name] = _random(spec, generator).reshape(shape).contiguous()
    weights["lm_head.weight"][list(silent_ids)] = 0
    return weights


def _random(spec: WeightSpec, generator: torch.Generator) -> Tensor:
    name = spec.name
    if name.endswith("norm.weight"):
        return torch.ones(spec.shape)
    if name.endswith(("A_log", "e_score_correction_bias")):
        return torch.zeros(spec.shape)
    if name.endswith("dt_bias"):
        return _decay_bias(spec.shape, generator)
    gain = next((gain for suffix, gain in _GAINS.items() if name.endswith(suffix)), 1.0)
    fan_in = 1 if name.endswith("embed_tokens.weight") else spec.shape[-1]
    return torch.randn(spec.shape, generator=generator) * (gain / math.sqrt(fan_in))


def _decay_bias(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Inverse softplus of decay rates spread evenly, in log scale, over the memory spans above."""
    low, high = math.log(1 / _LONGEST_TOKENS), math.log(1 / _SHORTEST_TOKENS)
    rate = (low + (high - low) * torch.rand(shape, generator=generator)).exp()
    return rate + torch.log(-torch.expm1(-rate))
