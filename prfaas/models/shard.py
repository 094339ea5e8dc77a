"""What one rank of a tensor-parallel group holds: which heads, which slice of each part, which share of the cache."""

from dataclasses import replace
from typing import TypeVar, assert_never

from torch import Tensor

from prfaas.core.decoder_spec import DecoderSpec, Gdn, Gqa, Kda, Lightning, Mixer, Mla
from prfaas.core.errors import UnsupportedModelError
from prfaas.models.batch import CacheTensors, LayerTensors
from prfaas.models.parts import Split
from prfaas.models.ranks import Ranks
from prfaas.models.state_tensor import StateTensor

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
    """This rank's heads and channels of the whole model's cache, which all ranks map."""
    if ranks.size == 1:
        return cache
    pairs = zip(spec.layers, cache.layers, strict=True)
    return replace(cache, layers=tuple(_share(layer.mixer, tensors, ranks) for layer, tensors in pairs))


def _share(mixer: Mixer, tensors: LayerTensors, ranks: Ranks) -> LayerTensors:
    match mixer:
        case Mla():
            return tensors  # one latent for all heads
        case Gqa():
            first, stop = unit_range(mixer.num_kv_heads, ranks)
            return LayerTensors(
                pages=tuple(pages[:, :, first:stop] for pages in tensors.pages),
                states=tuple(_heads_of_each_row(ring, first, stop) for ring in tensors.states),
            )
        case Kda() | Gdn():
            state, conv = tensors.states
            ranges = conv_ranges(mixer, ranks)
            width = sum(stop - start for start, stop in ranges)
            heads = mixer.num_heads if isinstance(mixer, Kda) else mixer.num_v_heads
            return LayerTensors(
                states=(state.narrow_rows(*unit_range(heads, ranks)), conv.narrow_each_row((width,), ranges))
            )
        case Lightning():
            (state,) = tensors.states
            return LayerTensors(states=(state.narrow_rows(*unit_range(mixer.num_heads, ranks)),))
        case _:
            assert_never(mixer)


def _heads_of_each_row(ring: StateTensor, first: int, stop: int) -> StateTensor:
    size = ring.dims[1]
    return ring.narrow_each_row((stop - first, size), ((first * size, stop * size),))


def conv_ranges(mixer: Kda | Gdn, ranks: Ranks) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """This rank's channels of q, k and v among those whose inputs are cached, which are all q's, all k's, all v's."""
    if isinstance(mixer, Kda):
        q = k = v = (mixer.num_heads, mixer.head_dim)
    else:
        q = k = (mixer.num_k_heads, mixer.k_dim)
        v = (mixer.num_v_heads, mixer.v_dim)
    width = q[0] * q[1]
    return _channels(*q, 0, ranks), _channels(*k, width, ranks), _channels(*v, 2 * width, ranks)


def _channels(heads: int, size: int, offset: int, ranks: Ranks) -> tuple[int, int]:
    first, stop = unit_range(heads, ranks)
    return offset + first * size, offset + stop * size


def _mine(units: int, ranks: Ranks) -> int:
    first, stop = unit_range(units, ranks)
    return stop - first


def _whole(units: int, ranks: Ranks) -> None:
    """Raises UnsupportedModelError where replicas of a unit would be counted more than once."""
    if units % ranks.size:
        raise UnsupportedModelError(f"{units} heads cannot be shared out evenly to {ranks.size} ranks")
