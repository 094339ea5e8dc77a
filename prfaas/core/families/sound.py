"""Whether a decoder's sizes fit each other, so that a config that cannot be computed fails here and not in a kernel."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, assert_never

from prfaas.core.decoder_spec import DecoderSpec, Gdn, Gqa, Kda, Lightning, Mixer, Mla, Rotary
from prfaas.core.errors import ModelError


def sound(spec: DecoderSpec) -> DecoderSpec:
    """The spec itself. Raises ModelError listing what does not fit."""
    parts = {part for layer in spec.layers for part in (layer.mixer, layer.mlp)}
    faults = [*_not_positive(spec), *(fault for part in parts for fault in _not_positive(part))]
    faults += [fault for mixer in {layer.mixer for layer in spec.layers} for fault in _mixer_faults(mixer)]
    faults += [fault for rotary in spec.rotaries for fault in _not_finite("theta", rotary.theta)]
    faults += _not_finite("norm_eps", spec.norm_eps)
    if not spec.layers:
        faults.append("there are no layers")
    if faults:
        raise ModelError(f"config.json: {'; '.join(sorted(set(faults)))}")
    return spec


def _not_positive(part: Any) -> Iterator[str]:
    for field in fields(part):
        value = getattr(part, field.name)
        if type(value) is int and value < (0 if field.name == "shared_inner" else 1):
            yield f"{type(part).__name__} has {field.name} = {value}"


def _not_finite(name: str, value: float) -> Iterator[str]:
    if not 0 < value < math.inf:
        yield f"{name} is {value}"


def _mixer_faults(mixer: Mixer) -> Iterator[str]:
    match mixer:
        case Gqa():
            yield from _rotary_faults(mixer.rotary, mixer.k_dim)
            yield from _not_divisible("query heads", mixer.num_heads, "key heads", mixer.num_kv_heads)
            if mixer.window is not None and mixer.window < 2:
                yield f"a window of {mixer.window} tokens is not implemented; 2 is the least"
        case Mla():
            yield from _rotary_faults(mixer.rotary, mixer.rope_dim)
        case Kda():
            yield from _conv_faults(mixer.conv_kernel)
        case Gdn():
            yield from _conv_faults(mixer.conv_kernel)
            yield from _not_divisible("value heads", mixer.num_v_heads, "key heads", mixer.num_k_heads)
        case Lightning():
            yield from _rotary_faults(mixer.rotary, mixer.head_dim)
            yield from _not_divisible("channels", mixer.num_heads * mixer.head_dim, "norm groups", mixer.norm_groups)
        case _:
            assert_never(mixer)


def _conv_faults(taps: int) -> Iterator[str]:
    if taps < 2:
        yield f"a convolution of {taps} taps is not implemented; 2 is the least"


def _rotary_faults(rotary: Rotary | None, head_dim: int) -> Iterator[str]:
    if rotary is not None and (rotary.dims % 2 or not 2 <= rotary.dims <= head_dim):
        yield f"{rotary.dims} of a head's {head_dim} channels cannot be rotated"


def _not_divisible(many: str, count: int, few: str, groups: int) -> Iterator[str]:
    if groups > 0 and count % groups:
        yield f"{count} {many} cannot be shared out to {groups} {few}"
