"""A tensor-parallel group of processes over `torch.distributed`: NCCL between GPUs, gloo between CPUs."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

_FOREVER = timedelta(days=365)
"""An idle engine leaves its followers waiting as long as it likes; a dead one they notice by its closed sockets."""


@dataclass(frozen=True, slots=True)
class Distributed:
    """This process's place in the group; usable for exchanges between `join_group` and `leave_group`."""

    rank: int
    size: int

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all ranks' `x`, which it overwrites if it is contiguous."""
        x = x.contiguous()
        dist.all_reduce(x)
        return x

    def join(self, x: Tensor) -> Tensor:
        """All ranks' `x` [..., N] one after another, [..., size * N]."""
        pieces = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(pieces, x.contiguous())
        return torch.cat(pieces, dim=-1)

    def share(self, payload: bytes | None) -> bytes:
        """Rank 0's `payload`, on every rank; the others pass None and wait for it."""
        assert (payload is None) == (self.rank != 0)
        length = torch.tensor([len(payload or b"")])
        dist.broadcast(length, src=0)
        data = torch.empty(int(length), dtype=torch.uint8)
        if payload:
            data.copy_(torch.frombuffer(bytearray(payload), dtype=torch.uint8))
        if len(data):
            dist.broadcast(data, src=0)
        return data.numpy().tobytes()


def meeting_place(fd: int) -> Path:
    """An empty file that all ranks have inherited as `fd`, by a name that `join_group` can open."""
    return Path(f"/proc/self/fd/{fd}")


def join_group(ranks: Distributed, meeting: Path, backend: str = "gloo") -> None:
    """Meets the other ranks at the file `meeting`, empty or not there before; all of them must be on their way."""
    store = dist.FileStore(str(meeting), ranks.size)  # type: ignore[attr-defined] # exported, but not declared to be
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=_FOREVER)
    dist.barrier()  # from here on nobody needs the file


def leave_group() -> None:
    """Ends this process's part in the group."""
    dist.destroy_process_group()
