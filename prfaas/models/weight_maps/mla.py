"""Multi-head latent attention as DeepSeek named its parts, and all others after it."""

from prfaas.models.weight_maps.sources import Map, named


def mla(at: str, out: str) -> Map:
    """`at` is the module's name, `out` that of its output projection."""
    return {
        "mixer.q": named(f"{at}.q_proj.weight"),
        "mixer.q_down": named(f"{at}.q_a_proj.weight"),
        "mixer.q_norm": named(f"{at}.q_a_layernorm.weight"),
        "mixer.q_up": named(f"{at}.q_b_proj.weight"),
        "mixer.latent": named(f"{at}.kv_a_proj_with_mqa.weight"),
        "mixer.latent_norm": named(f"{at}.kv_a_layernorm.weight"),
        "mixer.kv_up": named(f"{at}.kv_b_proj.weight"),
        "mixer.o": named(f"{at}.{out}.weight"),
    }
