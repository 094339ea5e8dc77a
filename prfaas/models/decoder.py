"""The decoder that all hybrid families share: a walk over layers that differ only in their mixer and MLP."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.batch_index import BatchIndex, index_batch
from prfaas_kernels.linear import linear
from prfaas_kernels.norm import rms_norm

Mixer = Callable[[Tensor, BatchIndex, tuple[Tensor, ...]], Tensor]
"""Mixes tokens of a sequence: normalised [T, hidden] to [T, hidden]; reads and writes the layer's cache tensors."""


@dataclass(frozen=True)
class DecoderLayer:
    """One block: `x += mixer(norm(x))`, `x += mlp(norm(x))`."""

    mixer_norm: Tensor
    """[hidden]"""
    mixer: Mixer
    mlp_norm: Tensor
    """[hidden]"""
    mlp: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HybridDecoder:
    """A whole model, for inference. Holds weights; the cache belongs to the caller."""

    embedding: Tensor
    """[vocab, hidden]"""
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    """[hidden]"""
    head: Tensor
    """[vocab, hidden]"""
    eps: float

    @torch.inference_mode()
    def forward(self, batch: ForwardBatch, cache: CacheTensors, on_layer: LayerDone | None = None) -> Tensor:
        """Runs T packed tokens through all layers, writing their cache. Returns logits [S, vocab] in fp32.

        `on_layer(i)` is called when layer i's cache holds every token of the batch, before the layer's MLP.
        """
        index = index_batch(batch, cache.page_tokens)
        x = self.embedding[batch.token_ids]  # [T, hidden]
        for i, layer in enumerate(self.layers):
            x += layer.mixer(rms_norm(x, layer.mixer_norm, self.eps), index, cache.layers[i])
            if on_layer is not None:
                on_layer(i)
            if i == len(self.layers) - 1:
                x = x[batch.logit_rows]  # nothing after the last mixer looks at other tokens
                if x.shape[0] == 0:  # every sequence is inside its prompt
                    break
            x += layer.mlp(rms_norm(x, layer.mlp_norm, self.eps))
        return linear(rms_norm(x, self.final_norm, self.eps), self.head).float()
