"""How one canonical part is made from tensors of a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Build = Callable[[list[Tensor]], Tensor]


def whole(tensors: list[Tensor]) -> Tensor:
    """The one tensor, as it is."""
    (tensor,) = tensors
    return tensor


def flat(tensors: list[Tensor]) -> Tensor:
    """One tensor without its dimensions of size one: [1, 1, H, 1] → [H]."""
    return whole(tensors).flatten()


def taps(tensors: list[Tensor]) -> Tensor:
    """A depthwise kernel: [C, 1, W] or [C, W] → [C, W]."""
    return whole(tensors).flatten(1)


def rows(sizes: Sequence[int], index: int, then: Build = whole) -> Build:
    """One of the parts that lie one below another in a tensor: [sum(sizes), ...] → [sizes[index], ...]."""
    return lambda tensors: then([torch.split(whole(tensors), list(sizes))[index]])


def of_heads(heads: int, sizes: Sequence[int], index: int) -> Build:
    """One of the parts that lie one below another in each head: [heads * sum(sizes), D] → [heads * sizes[index], D]."""

    def build(tensors: list[Tensor]) -> Tensor:
        by_head = torch.unflatten(whole(tensors), 0, (heads, -1))
        return torch.split(by_head, list(sizes), dim=1)[index].flatten(0, 1)

    return build


def stacked(per_entry: int) -> Build:
    """Every `per_entry` tensors [n, D] joined along their rows, and the results stacked: [E, per_entry * n, D]."""
    return lambda tensors: torch.unflatten(torch.stack(tensors), 0, (-1, per_entry)).flatten(1, 2)


@dataclass(frozen=True)
class Source:
    """Tensors by their names in the checkpoint, and what becomes of them; `build` also runs on meta tensors."""

    names: tuple[str, ...]
    build: Build = whole

    def under(self, prefix: str) -> "Source":
        return Source(tuple(prefix + name for name in self.names), self.build)


Sources = tuple[Source, ...]
"""Alternatives, the family's own spelling first."""
Map = Mapping[str, Sources]
"""Canonical name → where it may be found."""


def named(*names: str, build: Build = whole) -> Sources:
    """Alternatives of one tensor each."""
    return tuple(Source((name,), build) for name in names)


def experts(at: str, count: int, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> Map:
    """Routed experts: a tensor each, or fused over all of them."""
    each = [f"{at}.{e}" for e in range(count)]
    pairs = tuple(f"{e}.{name}.weight" for e in each for name in (gate, up))
    downs = tuple(f"{e}.{down}.weight" for e in each)
    return {
        "mlp.gate_up": (Source(pairs, stacked(2)), *named(f"{at}.gate_up_proj")),
        "mlp.down": (Source(downs, stacked(1)), *named(f"{at}.down_proj")),
    }


def swiglu(*places: str, prefix: str = "mlp.") -> Map:
    """A dense MLP at one of several places."""
    return {f"{prefix}{part}": named(*(f"{at}.{part}_proj.weight" for at in places)) for part in ("gate", "up", "down")}
