"""The definition of the gated delta rule against another implementation of it."""

import warnings

import pytest
import torch

from prfaas_kernels.gated_delta_rule import gdn_reference
from tests.kernels.error_ratio import error_ratio


@pytest.mark.parametrize("name", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_reference_agrees_with_transformers(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from transformers.models.qwen3_next import modeling_qwen3_next  # noqa: PLC0415 - slow import, one test
    q, k = torch.randn(2, 1, 130, 2, 16)
    v, state = torch.randn(1, 130, 6, 24), torch.randn(1, 6, 16, 24)
    log_decay, beta = -torch.rand(1, 130, 6), torch.rand(1, 130, 6)
    wide = (x.repeat_interleave(3, dim=2) for x in (q, k))
    theirs, their_state = getattr(modeling_qwen3_next, name)(
        *wide, v, log_decay, beta, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    out, final = gdn_reference(q[0], k[0], v[0], log_decay[0], beta[0], state[0])
    assert error_ratio(out, theirs[0]) < 1e-5
    assert error_ratio(final, their_state[0]) < 1e-5
