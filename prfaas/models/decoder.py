"""The decoder that all families share: a walk over layers that differ only in their mixer, MLP and residual."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.core.decoder_spec import PostNorm, Rotary
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone, LayerTensors
from prfaas.models.batch_index import BatchIndex, index_batch
from prfaas.models.layers.vocabulary import Embedding, Head
from prfaas.models.ranks import Ranks
from prfaas_kernels.norm import add_rms_norm, rms_norm

Mixer = Callable[[Tensor, BatchIndex, LayerTensors], Tensor]
"""Mixes tokens of a sequence: normalised [T, hidden] to [T, hidden]; reads and writes the layer's cache tensors."""
Mlp = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DecoderLayer:
    """One block; what its parts return is this rank's share of the sum."""

    mixer_norm: Tensor
    """[hidden]"""
    mixer: Mixer
    mixer_residual: PostNorm | None
    mlp_norm: Tensor
    """[hidden]"""
    mlp: Mlp
    mlp_residual: PostNorm | None


@dataclass(frozen=True)
class HybridDecoder:
    """A whole model, or one rank's slice of it, for inference. Holds weights; the cache belongs to the caller."""

    embedding: Embedding
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    """[hidden]"""
    head: Head
    eps: float
    frequencies: Mapping[Rotary, Tensor]
    """[dims / 2] inverse frequencies of each rotary embedding in use."""
    ranks: Ranks

    @torch.inference_mode()
    def forward(self, batch: ForwardBatch, cache: CacheTensors, on_layer: LayerDone | None = None) -> Tensor:
        """Runs T packed tokens through all layers, writing their cache. Returns logits [S, vocab] in fp32.

        `on_layer(i)` is called when layer i's cache holds every token of the batch, before the layer's MLP.
        """
        index = index_batch(batch, cache.page_tokens, cache.rows, self.frequencies)
        if index.moves is not None:
            cache.copy_states(*index.moves)
        x = self.embedding(batch.token_ids)  # [T, hidden]
        normed = rms_norm(x, self.layers[0].mixer_norm, self.eps)
        for i, layer in enumerate(self.layers):
            mixed = self.ranks.sum(layer.mixer(normed, index, cache.layers[i]))
            if on_layer is not None:
                on_layer(i)
            if i == len(self.layers) - 1:
                # Nothing after the last mixer looks at other tokens, and inside prompts nobody asks for logits.
                x, normed, mixed = (part.index_select(0, batch.logit_rows) for part in (x, normed, mixed))
                if x.shape[0] == 0:
                    break
            x, normed = self._add(x, normed, mixed, layer.mixer_residual, layer.mlp_norm)
            then = self.layers[i + 1].mixer_norm if i + 1 < len(self.layers) else self.final_norm
            x, normed = self._add(x, normed, self.ranks.sum(layer.mlp(normed)), layer.mlp_residual, then)
        return self.head(normed)

    def _add(
        self, x: Tensor, normed: Tensor, added: Tensor, residual: PostNorm | None, norm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The residual stream after a block's part, and its norm for the next one; overwrites its arguments."""
        if residual is None:
            return x, add_rms_norm(added, x, norm, self.eps)
        x = normed.mul_(residual.keep).add_(added, alpha=residual.add)
        return x, rms_norm(x, norm, self.eps)
