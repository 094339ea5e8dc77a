"""Where one rank's channels lie in the whole model's cached convolution inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConvCache:
    """Reads and writes some ranges of channels of [slots, W-1, channels]; None stands for all of them."""

    ranges: tuple[tuple[int, int], ...] | None = None

    def read(self, conv: Tensor, where: Tensor | int) -> Tensor:
        """[..., W-1, C] of one slot or several; a view only where one slot is read whole."""
        found = conv[where]
        if self.ranges is None:
            return found
        return torch.cat([found[..., start:stop] for start, stop in self.ranges], dim=-1)

    def write(self, conv: Tensor, where: Tensor | int, value: Tensor) -> None:
        """Stores [..., W-1, C]."""
        if self.ranges is None:
            conv[where] = value
            return
        done = 0
        for start, stop in self.ranges:
            conv[..., start:stop][where] = value[..., done : done + stop - start]
            done += stop - start
