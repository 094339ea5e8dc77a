"""Tiny checkpoints with random weights: those that transformers can write, and Ring's, which it cannot."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tests.models.ring_reference import RingReference
from tests.models.tiny_configs import TINY
from tests.models.tiny_ring import write_tiny_ring


class Reference(Protocol):
    """Somebody else's model of a checkpoint."""

    def __call__(self, ids: list[int]) -> Tensor:
        """Logits [T, vocab] in fp32."""
        ...


@dataclass(frozen=True)
class TransformersReference:
    """A model of transformers."""

    model: Any

    def __call__(self, ids: list[int]) -> Tensor:
        with quiet_transformers():
            logits: Tensor = self.model(torch.tensor([ids]), use_cache=False).logits[0]
        return logits.float()

    def greedy(self, ids: list[int], steps: int) -> list[int]:
        with quiet_transformers():
            generated: Tensor = self.model.generate(
                torch.tensor([ids]), max_new_tokens=steps, min_new_tokens=steps, do_sample=False, eos_token_id=None
            )
        tokens: list[int] = generated[0, len(ids) :].tolist()
        return tokens


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers warns of deprecations in code of its own and of its dependencies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def write_tiny(family: str, directory: Path, **changes: Any) -> Reference:
    """Writes the family's checkpoint, its config with `changes`, and returns somebody else's model of it."""
    if family == "ring":
        config = TINY["ring"] | changes
        return RingReference(config, write_tiny_ring(directory, config))
    return TransformersReference(_write_with_transformers(family, directory, TINY[family] | changes))


def read_with_transformers(directory: Path, dtype: torch.dtype) -> TransformersReference:
    """A checkpoint as transformers loads it."""
    with quiet_transformers():
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow to import

        # Its grouped product of experts wants rows of a multiple of 16 bytes.
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, experts_implementation="eager")
        return TransformersReference(model.eval())


def _write_with_transformers(family: str, directory: Path, settings: dict[str, Any]) -> Any:
    with quiet_transformers():
        from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415 - slow to import

        config = AutoConfig.for_model(family, **settings)
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        _vary_constants(model)
        model.save_pretrained(directory)
    return model


def _vary_constants(model: nn.Module) -> None:
    """Norms, sinks, decays and biases start as zeros, ones or steps; a term left out would not show."""
    for tensor in model.parameters():
        if tensor.squeeze().dim() == 1:
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(std=0.2)
