"""What one rank of a tensor-parallel group holds: which heads, which slice of each part, which view of the cache."""

from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from prfaas.core.decoder_spec import DecoderSpec, Gdn, Gqa, Kda, Lightning, Mixer, Mla
from prfaas.core.errors import UnsupportedModelError
from prfaas.models.batch import CacheTensors
from prfaas.models.parts import Split
from prfaas.models.ranks import Ranks

M = TypeVar("M", Gqa, Mla, Kda, Gdn, Lightning)


def unit_range(units: int, ranks: Ranks) -> tuple[int, int]:
    """The units [first, stop) of this rank; of fewer units than ranks, each is held by several."""
    if units % ranks.size == 0:
        each = units // ranks.size
        return ranks.rank * each, (ranks.rank + 1) * each
    if ranks.size % units == 0:
        mine = ranks.rank * units // ranks.size
        return mine, mine + 1
    raise UnsupportedModelError(f"{units} heads, experts or rows cannot be shared out to {ranks.size} ranks")


def slice_part(tensor: Tensor, split: Split | None, ranks: Ranks) -> Tensor:
    """This rank's slice of a whole part."""
    if split is None or ranks.size == 1:
        return tensor
    first, stop = unit_range(split.units, ranks)
    each = tensor.shape[split.axis] // split.units
    return tensor.narrow(split.axis, first * each, (stop - first) * each).clone()


def local_mixer(mixer: M, ranks: Ranks) -> M:
    """The spec of a mixer with this rank's numbers of heads. Raises UnsupportedModelError."""
    if ranks.size == 1:
        return mixer
    match mixer:
        case Gqa():
            _whole(mixer.num_heads, ranks)
            return replace(
                mixer, num_heads=_mine(mixer.num_heads, ranks), num_kv_heads=_mine(mixer.num_kv_heads, ranks)
            )
        case Gdn():
            _whole(mixer.num_k_heads, ranks)
            _whole(mixer.num_v_heads, ranks)
            return replace(
                mixer, num_k_heads=_mine(mixer.num_k_heads, ranks), num_v_heads=_mine(mixer.num_v_heads, ranks)
            )
        case Lightning():
            _whole(mixer.num_heads, ranks)
            if mixer.norm_groups != 1:
                _whole(mixer.norm_groups, ranks)
            first, stop = unit_range(mixer.num_heads, ranks)
            return replace(mixer, num_heads=stop - first, log_decay=mixer.log_decay[first:stop])
        case _:
            _whole(mixer.num_heads, ranks)
            return replace(mixer, num_heads=_mine(mixer.num_heads, ranks))


def local_cache(spec: DecoderSpec, cache: CacheTensors, ranks: Ranks) -> CacheTensors:
    """Views of this rank's heads in the whole model's cache, which all ranks map."""
    if ranks.size == 1:
        return cache
    pairs = zip(spec.layers, cache.layers, strict=True)
    return replace(cache, layers=tuple(_cache_view(layer.mixer, tensors, ranks) for layer, tensors in pairs))


def _cache_view(mixer: Mixer, tensors: tuple[Tensor, ...], ranks: Ranks) -> tuple[Tensor, ...]:
    match mixer:
        case Mla():
            return tensors  # one latent for all heads
        case Gqa():
            first, stop = unit_range(mixer.num_kv_heads, ranks)
            return tuple(tensor[:, :, first:stop] for tensor in tensors)
        case Gdn():
            first, stop = unit_range(mixer.num_v_heads, ranks)
        case _:
            first, stop = unit_range(mixer.num_heads, ranks)
    state, *conv = tensors
    return (state[:, first:stop], *conv)


def conv_ranges(widths: tuple[tuple[int, int], ...], ranks: Ranks) -> tuple[tuple[int, int], ...] | None:
    """Of convolved parts, given as (heads, channels per head) one after another: this rank's ranges of channels."""
    if ranks.size == 1:
        return None
    ranges, offset = [], 0
    for heads, size in widths:
        first, stop = unit_range(heads, ranks)
        ranges.append((offset + first * size, offset + stop * size))
        offset += heads * size
    return tuple(ranges)


def _mine(units: int, ranks: Ranks) -> int:
    first, stop = unit_range(units, ranks)
    return stop - first


def _whole(units: int, ranks: Ranks) -> None:
    """Raises UnsupportedModelError where replicas of a unit would be counted more than once."""
    if units % ranks.size:
        raise UnsupportedModelError(f"{units} heads cannot be shared out evenly to {ranks.size} ranks")
