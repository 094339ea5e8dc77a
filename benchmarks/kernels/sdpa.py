"""Torch's own attention, to compare with: causal, over dense tensors. Knows nothing of pages."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from benchmarks.kernels.case import Make, Run


def sdpa_peers(
    tokens: int, heads: int, groups: int, key: int, value: int, backends: tuple[str, ...] = ("flash", "cudnn")
) -> dict[str, Make]:
    """Of one prompt of `tokens`, a peer for each backend."""
    return {f"SDPA {name}": partial(_sdpa, name, tokens, heads, groups, key, value) for name in backends}


def _sdpa(backend: str, tokens: int, heads: int, groups: int, key: int, value: int, device: torch.device) -> Run:
    """Values narrower than keys are padded, and a backend that wants a key head for each head gets it."""
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415  missing in a torch without a GPU's kernels

    used = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[backend]
    q, k, v = _inputs(tokens, heads, groups, key, value, device)

    def run() -> object:
        with sdpa_kernel(used):
            return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != heads)

    try:
        run()
    except RuntimeError:
        k, v = (x.repeat_interleave(heads // groups, dim=1) for x in (k, v))
    return run


def _inputs(tokens: int, heads: int, groups: int, key: int, value: int, device: torch.device) -> list[Tensor]:
    """Queries, keys and values, [1, heads, tokens, key] each."""
    new: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    q, k = torch.randn(1, heads, tokens, key, **new), torch.randn(1, groups, tokens, key, **new)
    return [q, k, pad(torch.randn(1, groups, tokens, value, **new), (0, key - value))]
