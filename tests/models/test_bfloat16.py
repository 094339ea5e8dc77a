"""In bfloat16 we stay as close to fp32 as others do."""

import torch
from torch import Tensor

from prfaas.models.loader import load_model
from tests.models.conftest import Tiny
from tests.models.rig import decode_all, in_chunks, make_rig
from tests.models.tiny import TransformersReference, read_with_transformers
from tests.models.tiny_configs import VOCAB

ROUNDING = 0.01
RING = 0.06


def error_ratio(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


def their_error(tiny: Tiny, ids: list[int], exact: Tensor) -> float:
    """Ring's reference is fp32 only; it gets what comes of rounding in models of this size."""
    if not isinstance(tiny.theirs, TransformersReference):
        return RING
    return error_ratio(read_with_transformers(tiny.directory, torch.bfloat16)(ids), exact)


def test_bfloat16_is_as_exact_as_that_of_others(every: Tiny) -> None:
    ids = torch.randint(3, VOCAB, (200,)).tolist()
    exact = every.theirs(ids)
    ours = load_model(every.directory, "bfloat16")
    allowed = 1.5 * their_error(every, ids, exact) + ROUNDING
    for logits in (in_chunks(make_rig(ours), ids, 64), decode_all(make_rig(ours), ids)):
        assert logits.dtype == torch.float32
        assert error_ratio(logits, exact) <= allowed
