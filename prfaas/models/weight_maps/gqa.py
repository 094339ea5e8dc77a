"""Grouped-query attention under the names that most families share."""

from prfaas.core.decoder_spec import Gqa
from prfaas.models.weight_maps.sources import Map, named, of_heads


def gqa(spec: Gqa, at: str = "self_attn", sinks: str = "sinks") -> Map:
    """A gated layer stores each head's gate below its query, in one tensor."""
    found = {
        **{f"mixer.{part}": named(f"{at}.{part}_proj.weight") for part in "qkvo"},
        "mixer.q_norm": named(f"{at}.q_norm.weight"),
        "mixer.k_norm": named(f"{at}.k_norm.weight"),
        "mixer.sinks": named(f"{at}.{sinks}"),
    }
    if spec.gated:
        sizes = (spec.k_dim, spec.v_dim)
        for i, part in enumerate(("q", "gate")):
            found[f"mixer.{part}"] = named(f"{at}.q_proj.weight", build=of_heads(spec.num_heads, sizes, i))
    return found
