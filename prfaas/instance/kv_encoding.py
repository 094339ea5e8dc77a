"""What the objects of one transfer are encoded as: what both ends allow, what the tensor is, what was rounded before.

Brings together what the policy decides by; encodes nothing itself.
"""

from collections.abc import Callable, Iterable
from typing import get_args

from prfaas.config.sections import CodecName
from prfaas.core.clock import Clock
from prfaas.core.shape import ModelShape
from prfaas.instance.kv_codec import FAMILIES, KvCodec
from prfaas.policy.codec import Route, choose, lossless
from prfaas.wire.header import Codec
from prfaas.wire.tensors import usable_codecs

Routes = Callable[[str], Route]
"""The way to a cluster, as it is known now."""

_NAMES: tuple[CodecName, ...] = get_args(CodecName)


class Encoding:
    """Of one transfer. For one thread: that which reports what the engine has done."""

    def __init__(
        self, codec: KvCodec | None, offered: frozenset[CodecName], route: Callable[[], Route], clock: Clock
    ) -> None:
        self.codec = codec
        self._offered = offered if codec is not None else frozenset[CodecName]()
        self._route = route
        self._clock = clock
        self._began: float | None = None
        self._produced_bytes = 0

    def produced(self, num_bytes: int) -> None:
        """So much KV was computed since the last call."""
        if self._began is None:
            # How long the first took is not known.
            self._began = self._clock()
        else:
            self._produced_bytes += num_bytes

    def codec_for(self, shape: ModelShape, layer: int, tensor: int, *, rounded: bool) -> Codec:
        """For objects of a tensor that are ready now; `rounded`: some of their values were rounded before."""
        if self.codec is None:
            return Codec.RAW
        fitting = _fitting(shape, layer, tensor)
        offered = lossless(self._offered) if rounded else self._offered
        name = choose(offered, frozenset(fitting), self._route(), self.codec.encode_bytes_s, self._produce_bytes_s())
        return fitting[name]

    def _produce_bytes_s(self) -> float | None:
        if self._began is None or not self._produced_bytes:
            return None
        return self._produced_bytes / max(self._clock() - self._began, 1e-6)


class Encodings:
    """Makes the encoding of each transfer from here."""

    def __init__(self, codec: KvCodec | None, allowed: Iterable[CodecName], routes: Routes, clock: Clock) -> None:
        """`codec`: None where there is no compiler; all goes raw then. `allowed` by this instance's configuration."""
        self._codec = codec
        self._allowed = frozenset(allowed)
        self._routes = routes
        self._clock = clock

    def to(self, cluster: str, offered: Iterable[str]) -> Encoding:
        """To a receiver in `cluster` whose ticket offers these codecs; names that nobody knows here are left out."""
        names = frozenset(offered)
        both = frozenset(name for name in _NAMES if name in names and name in self._allowed)
        return Encoding(self._codec, both, lambda: self._routes(cluster), self._clock)


def _fitting(shape: ModelShape, layer: int, tensor: int) -> dict[CodecName, Codec]:
    """The codecs that are for a tensor, by family: keys have channels of unlike size, values and latents do not."""
    usable, name = usable_codecs(shape, layer, tensor), shape.layers[layer].tensors[tensor].name
    int8 = Codec.INT8_CHANNEL if name == "k" else Codec.INT8_TOKEN
    wanted = {family: codecs & usable for family, codecs in FAMILIES.items()}
    wanted["int8"] &= {int8}
    return {family: next(iter(codecs)) for family, codecs in wanted.items() if codecs}
