"""The definition of the convolution, one token after another, in fp32."""

import torch
from torch import Tensor


def conv_reference(x: Tensor, weight: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Convolves `x` [T, C] with `weight` [W, C] (oldest tap first) after the inputs in `state` [W-1, C].

    Returns SiLU of the result [T, C] and the last W-1 inputs [W-1, C].
    """
    x, weight, window = x.float(), weight.float(), state.float()
    outputs = []
    for token in x:
        window = torch.cat([window, token[None]])  # [W, C]
        total = (window * weight).sum(0)
        outputs.append(total * torch.sigmoid(total))
        window = window[1:]
    return torch.stack(outputs), window
