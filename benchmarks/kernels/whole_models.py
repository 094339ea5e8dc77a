"""A step of a whole model without its weights: every op launches what it would, on torch's meta device."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels.case import Run
from prfaas.cache.layout import lay_out
from prfaas.core.families.registry import decoder_spec
from prfaas.core.shape import shape_of
from prfaas.models.batch import ForwardBatch
from prfaas.models.build import build_decoder
from prfaas.models.cache_tensors import allocate_cache
from prfaas.models.parts import Part, parts
from prfaas.models.ranks import ALONE

PAGE_TOKENS = 64
NUM_PAGES = 4096
CONTEXTS = (5000, 100, 64, 8192, 0, 0)
TOKENS = (1, 1, 1, 4000, 300, 17)
"""Three decodes; a chunk of a long prompt; two prompts from their start."""
NUM_DECODES = 3


class BlankWeights:
    """Parts that have shapes only, in bf16."""

    def __init__(self, found: dict[str, Part], device: torch.device) -> None:
        self._found = found
        self._device = device

    def part(self, name: str) -> Part | None:
        """What a name stands for; None if the model has none of it."""
        return self._found.get(name)

    def __getitem__(self, name: str) -> Tensor:
        part = self._found[name]
        return torch.empty(part.shape, dtype=torch.float32 if part.keep_fp32 else torch.bfloat16, device=self._device)


def step(config: dict[str, Any], device: torch.device) -> Run:
    """A mixed step of the model that a `config.json` describes; the call returns logits [6, vocab]."""
    spec = decoder_spec(config)
    shape = shape_of(spec, "bfloat16")
    decoder = build_decoder(spec, BlankWeights({part.name: part for part in parts(spec)}, device), ALONE, device)
    cache, layout = allocate_cache(shape, NUM_PAGES, PAGE_TOKENS, device), lay_out(shape, PAGE_TOKENS)

    def ids(*dims: int) -> Tensor:
        return torch.zeros(dims, dtype=torch.int64, device=device)

    states = ids(len(TOKENS), layout.state_pages)
    batch = ForwardBatch(
        token_ids=ids(sum(TOKENS)),
        query_lens=TOKENS,
        context_lens=CONTEXTS,
        block_table=ids(len(TOKENS), -(-max(map(sum, zip(TOKENS, CONTEXTS, strict=True))) // PAGE_TOKENS)),
        state_from=states,
        state_to=states,
        continues=(False,) * len(TOKENS),
        num_decodes=NUM_DECODES,
        logit_rows=ids(len(TOKENS)),
    )
    return lambda: decoder.forward(batch, cache)
