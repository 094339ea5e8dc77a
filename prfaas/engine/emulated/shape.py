"""What an emulated engine caches: a few layers that have as many bytes as all layers of the profile's model together.

Knows no pages and no files.
"""

from prfaas.core.errors import ConfigError
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.policy.profile import Profile

PAGED_LAYERS = 4
"""KV leaves in so many parts while a step is computed."""
MODEL_TYPE = "emulated"
_ELEMENT_BYTES = 2
_STATE_ELEMENT_BYTES = 4
_ALIGNED_BYTES = 64
_ROW_TOKENS = 16
"""A row of a state has at most the bytes of so many tokens: it must fit into a page, and fill it well."""


def emulated_shape(profile: Profile, max_context_tokens: int) -> ModelShape:
    """`profile` is scaled already. Bytes per token and per state are its own, rounded to whole rows.

    The states come last, as they are complete when the prefill ends. Raises ConfigError where a token has too few bytes
    for that.
    """
    elements = round(profile.kv_bytes_per_token / _ELEMENT_BYTES)
    if elements < PAGED_LAYERS:
        least = PAGED_LAYERS * _ELEMENT_BYTES
        raise ConfigError(
            f"engine.emulated.kv_scale leaves {profile.kv_bytes_per_token:.3g} bytes of KV per token of "
            f"{profile.name}; raise it so that there are {least} or more"
        )
    parts = [elements // PAGED_LAYERS + (i < elements % PAGED_LAYERS) for i in range(PAGED_LAYERS)]
    paged = [LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (n,), "bfloat16"),)) for n in parts]
    states = _states(profile.state_bytes, elements * _ELEMENT_BYTES)
    return ModelShape(MODEL_TYPE, (*paged, *states), max_context_tokens)


def _states(state_bytes: float, token_bytes: int) -> list[LayerCache]:
    if state_bytes < _ALIGNED_BYTES:
        return []
    row_bytes = max(_ALIGNED_BYTES, min(token_bytes * _ROW_TOKENS, int(state_bytes)) // _ALIGNED_BYTES * _ALIGNED_BYTES)
    rows = max(1, round(state_bytes / row_bytes))
    tensor = CacheTensor("state", (rows, row_bytes // _STATE_ELEMENT_BYTES), "float32")
    return [LayerCache("kda", paged=False, tensors=(tensor,))]
