"""An emulated model has the profile's bytes, as near as whole rows allow."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import lay_out
from prfaas.core.errors import ConfigError
from prfaas.engine.emulated.shape import emulated_shape
from tests.engine.emulated.profiles import PROFILE


@given(st.floats(8, 20_000), st.floats(0, 1e7), st.sampled_from([16, 32, 64]))
def test_bytes_are_the_profiles_own(token_bytes: float, state_bytes: float, page_tokens: int) -> None:
    shape = emulated_shape(replace(PROFILE, kv_bytes_per_token=token_bytes, state_bytes=state_bytes), 1000)
    layout = lay_out(shape, page_tokens)
    assert abs(shape.kv_bytes_per_token - token_bytes) <= 1
    row_bytes = max(64, 16 * shape.kv_bytes_per_token)
    assert abs(shape.state_bytes - state_bytes) <= max(64, row_bytes / 2)
    assert layout.page_bytes >= page_tokens * shape.kv_bytes_per_token
    if page_tokens * shape.kv_bytes_per_token >= 4096:  # of small pages a line of the cache is a large part
        assert layout.page_bytes <= page_tokens * shape.kv_bytes_per_token + 64 * len(shape.layers)


def test_states_come_after_all_kv() -> None:
    shape = emulated_shape(PROFILE, 1000)
    assert [layer.paged for layer in shape.layers] == [True, True, True, True, False]
    assert shape.max_context_tokens == 1000
    assert emulated_shape(replace(PROFILE, state_bytes=0), 1000).state_layers == ()


def test_a_scale_that_leaves_no_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="kv_scale leaves 5 bytes of KV per token"):
        emulated_shape(replace(PROFILE, kv_bytes_per_token=5), 1000)
