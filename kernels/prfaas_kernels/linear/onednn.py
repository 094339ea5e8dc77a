"""oneDNN's product as torch has it, found once: torch looks its operators up by name and type at every call."""

import torch
from torch import Tensor

HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
_product = torch.ops.mkldnn._linear_pointwise.default if HAS_ONEDNN else None  # noqa: SLF001 - torch's only way


def linear_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """`x` [T, I], T >= 1, times the transpose of `weight` [O, I], packed by oneDNN or dense: [T, O]."""
    assert _product is not None
    out: Tensor = _product(x, weight, None, "none", [], "")
    return out
