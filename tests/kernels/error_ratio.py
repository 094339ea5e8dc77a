"""How far a kernel is from its reference."""

from torch import Tensor


def error_ratio(actual: Tensor, expected: Tensor) -> float:
    """RMS of the difference over RMS of what is expected; infinite if `actual` has a NaN or infinity."""
    assert actual.shape == expected.shape
    if not actual.isfinite().all():
        return float("inf")
    scale = expected.double().pow(2).mean().sqrt()
    return float((actual.double() - expected.double()).pow(2).mean().sqrt() / (scale + 1e-12))
